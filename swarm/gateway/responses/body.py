"""Choices to responses: items of output, at once or as a stream of numbered events. Pure but for the choice that it reads."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any

from swarm.gateway.generation.choice import Choice, ToldCall, ToldText, usage_of
from swarm.gateway.http.errors import refusal_of
from swarm.gateway.http.sse import event
from swarm.gateway.openai.chat import probabilities
from swarm.gateway.responses.requests import ResponseRequest
from swarm.text.answers.harmony import Thought


@dataclass(slots=True)
class Writing:
    """A response as it grows."""

    id: str
    created: int
    request: ResponseRequest
    choice: Choice
    output: list[dict[str, Any]] = field(default_factory=list)
    finished: bool = False
    _number: int = 0  # of the next event
    _untold: list[dict[str, Any]] = field(default_factory=list)  # tokens whose text is still held back

    async def events(self) -> AsyncGenerator[bytes, None]:
        """Everything that a stream tells, the whole response at last."""
        open_item: dict[str, Any] | None = None
        async for delta in self.choice:
            for told in self._begin():
                yield told
            if isinstance(delta, ToldText):
                self._untold += probabilities(delta.tokens)
                if not delta.text:
                    continue
            kind = "message" if isinstance(delta, ToldText) else "reasoning"
            if open_item is not None and (isinstance(delta, ToldCall) or open_item["type"] != kind):
                for told in self._close(open_item):
                    yield told
                open_item = None
            if isinstance(delta, ToldCall):
                for told in self._call(delta):
                    yield told
                continue
            if open_item is None:
                open_item = _message() if kind == "message" else _reasoning()
                for told in self._open(open_item):
                    yield told
            yield self._grow(open_item, delta)
        if open_item is not None:
            for told in self._close(open_item):
                yield told
        for told in self._begin():
            yield told
        self.finished = True
        kind = "response.incomplete" if self.choice.finish_reason == "length" else "response.completed"
        yield self._event(kind, response=self.body())

    async def finish(self) -> dict[str, Any]:
        """The whole response at once."""
        async for _ in self.events():
            pass
        return self.body()

    def failed(self, error: Exception) -> bytes:
        """The event of an error that came when headers were out."""
        refusal = refusal_of(error)
        return self._event("error", code=refusal.code, message=refusal.message, param=refusal.param)

    def message(self) -> dict[str, Any]:
        """The answer, as the conversation goes on from it."""
        texts = [part["text"] for item in self.output if item["type"] == "message" for part in item["content"]]
        calls = [
            {
                "id": item["call_id"],
                "type": "function",
                "function": {"name": item["name"], "arguments": item["arguments"]},
            }
            for item in self.output
            if item["type"] == "function_call"
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
            "tool_choice": request.model_dump()["tool_choice"],
            "tools": [tool.model_dump() for tool in request.tools],
            "top_p": request.top_p,
            "truncation": request.truncation,
            "usage": None
            if status == "in_progress"
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

    def _begin(self) -> list[bytes]:
        """The first events, which come with the first token: until then a failure has its status."""
        if self._number:
            return []
        kinds = ("response.created", "response.in_progress")
        return [self._event(kind, response=self.body("in_progress")) for kind in kinds]

    @property
    def _index(self) -> int:
        return len(self.output) - 1

    def _place(self, item: Mapping[str, Any]) -> dict[str, Any]:
        return {"item_id": item["id"], "output_index": self._index}

    def _open(self, item: dict[str, Any]) -> list[bytes]:
        self.output.append(item)
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

    def _close(self, item: dict[str, Any]) -> list[bytes]:
        item["status"] = "completed"
        place, part = self._place(item) | {"content_index": 0}, item["content"][0]
        told = []
        if item["type"] == "message":
            part["logprobs"] += self._untold
            self._untold = []
            probable = part["logprobs"]
            told.append(self._event("response.output_text.done", **place, text=part["text"], logprobs=probable))
            told.append(self._event("response.content_part.done", **place, part=part))
        else:
            told.append(self._event("response.reasoning_text.done", **place, text=part["text"]))
        return [*told, self._event("response.output_item.done", output_index=self._index, item=item)]

    def _call(self, call: ToldCall) -> list[bytes]:
        item = {
            "type": "function_call",
            "id": f"fc_{secrets.token_hex(12)}",
            "call_id": call.id,
            "name": call.name,
            "arguments": "",
            "status": "in_progress",
        }
        self.output.append(item)
        told = [self._event("response.output_item.added", output_index=self._index, item=dict(item))]
        item |= {"arguments": call.arguments, "status": "completed"}
        place = self._place(item)
        return [
            *told,
            self._event("response.function_call_arguments.delta", **place, delta=call.arguments),
            self._event("response.function_call_arguments.done", **place, name=call.name, arguments=call.arguments),
            self._event("response.output_item.done", output_index=self._index, item=item),
        ]


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
