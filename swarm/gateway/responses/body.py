"""Choices to responses: items of output, at once or as a stream of numbered events. Pure but for the choice that it reads."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any

from swarm.gateway.generation.choice import Choice, Delta, ToldCall, ToldMore, ToldText, usage_of
from swarm.gateway.generation.tools import Toolbox
from swarm.gateway.http.errors import refusal_of
from swarm.gateway.http.sse import event
from swarm.gateway.openai.chat import probabilities
from swarm.gateway.responses.requests import ResponseRequest
from swarm.gateway.responses.tools import call_item, filled
from swarm.text.answers.harmony import Thought


@dataclass(slots=True)
class Writing:
    """A response as it grows."""

    id: str
    created: int
    request: ResponseRequest
    choice: Choice
    tools: Toolbox = field(default_factory=Toolbox)
    output: list[dict[str, Any]] = field(default_factory=list)
    finished: bool = False
    _open: dict[str, Any] | None = None  # the item that grows
    _parts: list[str] = field(default_factory=list)  # of the arguments of the call that is being written
    _calls: list[tuple[ToldCall, str]] = field(default_factory=list)  # with their arguments
    _number: int = 0  # of the next event
    _untold: list[dict[str, Any]] = field(default_factory=list)  # tokens whose text is still held back

    async def events(self) -> AsyncGenerator[bytes, None]:
        """Everything that a stream tells, the whole response at last."""
        async for delta in self.choice:
            for told in self._begin():
                yield told
            for told in self._take(delta):
                yield told
        for told in self._begin():
            yield told
        for told in self._close(whole=self.choice.finish_reason != "length"):
            yield told
        self.finished = True
        kind = "response.incomplete" if self.choice.finish_reason == "length" else "response.completed"
        yield self._event(kind, response=self.body())

    def _take(self, delta: Delta) -> list[bytes]:
        """What is told of a delta."""
        if isinstance(delta, ToldText):
            self._untold += probabilities(delta.tokens)
            if not delta.text:
                return []
        if isinstance(delta, ToldMore):
            return self._grow_call(delta)
        if isinstance(delta, ToldCall):
            return [*self._close(), *self._begin_call(delta)]
        kind = "message" if isinstance(delta, ToldText) else "reasoning"
        told: list[bytes] = []
        if self._open is None or self._open["type"] != kind:
            told += self._close()
            told += self._add(_message() if kind == "message" else _reasoning())
        assert self._open is not None
        return [*told, self._grow(self._open, delta)]

    async def finish(self) -> dict[str, Any]:
        """The whole response at once."""
        async for _ in self.events():
            pass
        return self.body()

    def failed(self, error: Exception) -> bytes:
        """The event of an error that came when headers were out."""
        refusal = refusal_of(error)
        told = {"code": refusal.code or "invalid_prompt", "message": refusal.message}
        # Some programs look for the one event, some for the other.
        return b"".join(self._begin()) + b"".join(
            (
                self._event("response.failed", response=self.body("failed") | {"error": told}),
                self._event("error", code=refusal.code, message=refusal.message, param=refusal.param),
            )
        )

    def message(self) -> dict[str, Any]:
        """The answer, as the conversation goes on from it."""
        texts = [part["text"] for item in self.output if item["type"] == "message" for part in item["content"]]
        calls = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}
            for call, arguments in self._calls
        ]
        message: dict[str, Any] = {"role": "assistant", "content": "".join(texts)}
        return message | ({"tool_calls": calls} if calls else {})

    def body(self, status: str | None = None) -> dict[str, Any]:
        """The response as JSON."""
        request, full = self.request, self.choice.finish_reason == "length"
        status = status or ("incomplete" if full else "completed")
        usage = usage_of([self.choice])
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": request.instructions or None,
            "max_output_tokens": request.max_output_tokens,
            "metadata": request.metadata,
            "model": request.model,
            "output": [dict(item) for item in self.output],
            "parallel_tool_calls": request.parallel_tool_calls,
            "previous_response_id": request.previous_response_id,
            "reasoning": {"effort": request.reasoning.effort, "summary": None},
            "store": request.store,
            "temperature": request.temperature,
            "text": {"format": request.text.format.model_dump(by_alias=True, exclude_defaults=True) | _type(request)},
            "tool_choice": request.model_dump(exclude_unset=True).get("tool_choice", "auto"),
            "tools": [tool.told() for tool in request.tools],
            "top_p": request.top_p,
            "truncation": request.truncation,
            "usage": None
            if status in ("in_progress", "failed")
            else {
                "input_tokens": usage.prompt,
                "input_tokens_details": {"cached_tokens": usage.cached},
                "output_tokens": usage.completion,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": usage.prompt + usage.completion,
            },
            "user": request.user,
        }

    def _event(self, kind: str, **fields: Any) -> bytes:
        self._number += 1
        return event({"type": kind, "sequence_number": self._number - 1, **fields}, kind)

    def alive(self) -> bytes:
        """Events that say nothing new."""
        return b"".join(self._begin()) or self._event("response.in_progress", response=self.body("in_progress"))

    def _begin(self) -> list[bytes]:
        """The first events, which come with the first token or sign of life: until then a failure has its status."""
        if self._number:
            return []
        kinds = ("response.created", "response.in_progress")
        return [self._event(kind, response=self.body("in_progress")) for kind in kinds]

    @property
    def _index(self) -> int:
        return len(self.output) - 1

    def _place(self, item: Mapping[str, Any]) -> dict[str, Any]:
        return {"item_id": item["id"], "output_index": self._index}

    def _add(self, item: dict[str, Any]) -> list[bytes]:
        self.output.append(item)
        self._open = item
        told = [self._event("response.output_item.added", output_index=self._index, item=item)]
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        if item["type"] == "message":
            told.append(self._event("response.content_part.added", **self._place(item), content_index=0, part=part))
            item["content"] = [part]
        return told

    def _grow(self, item: dict[str, Any], delta: ToldText | Thought) -> bytes:
        place = self._place(item) | {"content_index": 0}
        if isinstance(delta, Thought):
            item["content"][0]["text"] += delta.text
            return self._event("response.reasoning_text.delta", **place, delta=delta.text)
        told, self._untold = self._untold, []
        item["content"][0]["text"] += delta.text
        item["content"][0]["logprobs"] += told
        return self._event("response.output_text.delta", **place, delta=delta.text, logprobs=told)

    def _close(self, whole: bool = True) -> list[bytes]:
        """The item that is open, if there is one, ends; not `whole`: it was cut off."""
        item, self._open = self._open, None
        if item is None:
            return []
        item["status"] = "completed" if whole else "incomplete"
        told: list[bytes] = []
        if item["type"] == "message":
            place, part = self._place(item) | {"content_index": 0}, item["content"][0]
            part["logprobs"] += self._untold
            self._untold = []
            probable = part["logprobs"]
            told.append(self._event("response.output_text.done", **place, text=part["text"], logprobs=probable))
            told.append(self._event("response.content_part.done", **place, part=part))
        elif item["type"] == "reasoning":
            place = self._place(item) | {"content_index": 0}
            told.append(self._event("response.reasoning_text.done", **place, text=item["content"][0]["text"]))
        else:
            told += self._end_call(item)
        return [*told, self._event("response.output_item.done", output_index=self._index, item=item)]

    def _begin_call(self, call: ToldCall) -> list[bytes]:
        self._calls.append((call, ""))
        self._parts = []
        told = self._add(call_item(self.tools.find(call.name), call.name, call.id))
        return [*told, *self._grow_call(ToldMore(call.index, call.arguments, call.whole))]

    def _grow_call(self, more: ToldMore) -> list[bytes]:
        item = self._open
        assert item is not None, "a call goes on before anything else is told"
        self._parts.append(more.arguments)
        told: list[bytes] = []
        if item["type"] == "function_call" and more.arguments:
            kind = "response.function_call_arguments.delta"
            told.append(self._event(kind, **self._place(item), delta=more.arguments))
        return [*told, *(self._close() if more.last else ())]

    def _end_call(self, item: dict[str, Any]) -> list[bytes]:
        arguments = "".join(self._parts)
        self._calls[-1] = (self._calls[-1][0], arguments)
        item |= filled(item, arguments)
        place = self._place(item)
        if item["type"] == "function_call":
            kind = "response.function_call_arguments.done"
            return [self._event(kind, **place, name=item["name"], arguments=arguments)]
        if item["type"] == "custom_tool_call":
            kind = "response.custom_tool_call_input"
            return [
                self._event(f"{kind}.delta", **place, delta=item["input"]),
                self._event(f"{kind}.done", **place, input=item["input"]),
            ]
        return []


def _type(request: ResponseRequest) -> dict[str, str]:
    return {"type": request.text.format.type}


def _message() -> dict[str, Any]:
    return {
        "type": "message",
        "id": f"msg_{secrets.token_hex(12)}",
        "status": "in_progress",
        "role": "assistant",
        "content": [],
    }


def _reasoning() -> dict[str, Any]:
    content = [{"type": "reasoning_text", "text": ""}]
    return {
        "type": "reasoning",
        "id": f"rs_{secrets.token_hex(12)}",
        "summary": [],
        "content": content,
        "status": "in_progress",
    }
