"""`POST /v1/chat/completions`: choices to OpenAI's JSON, at once or as a stream of chunks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from swarm.gateway.generation.choice import (
    Choice,
    Delta,
    ToldCall,
    ToldMore,
    ToldText,
    ToldToken,
    Usage,
    shown_piece,
    usage_of,
)
from swarm.gateway.generation.concurrency import gather_all
from swarm.gateway.generation.tools import Toolbox, input_of
from swarm.gateway.http.sse import event
from swarm.text.answers.harmony import Thought

MAX_WAITING = 64  # deltas of all choices that were not sent yet: more of them wait then
DONE = "[DONE]"


@dataclass(frozen=True, slots=True)
class Stamp:
    """What all parts of one answer have in common."""

    id: str
    created: int  # seconds since 1970
    model: str


@dataclass(slots=True)
class Said:
    """One choice, put together."""

    text: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[tuple[ToldCall, list[str]]] = field(default_factory=list)  # with the parts of their arguments
    tokens: list[ToldToken] = field(default_factory=list)

    def add(self, delta: Delta) -> None:
        match delta:
            case ToldText():
                self.text.append(delta.text)
                self.tokens.extend(delta.tokens)
            case Thought():
                self.thoughts.append(delta.text)
            case ToldCall():
                self.calls.append((delta, [delta.arguments]))
            case ToldMore():
                self.calls[-1][1].append(delta.arguments)


async def read(choice: Choice) -> Said:
    """The whole of a choice."""
    said = Said()
    async for delta in choice:
        said.add(delta)
    return said


async def read_all(choices: Sequence[Choice]) -> list[Said]:
    """All choices, computed together; one that fails ends the others."""
    return await gather_all(map(read, choices))


async def merged(choices: Sequence[Choice]) -> AsyncGenerator[tuple[Choice, Delta | None], None]:
    """Deltas of all choices as they come, each choice's last being None. One that fails ends the others, with its error."""
    queue: asyncio.Queue[tuple[Choice, Delta | Exception | None]] = asyncio.Queue(MAX_WAITING)

    async def pump(choice: Choice) -> None:
        try:
            async for delta in choice:
                await queue.put((choice, delta))
        except Exception as error:  # whatever it is, it belongs to whoever reads
            await queue.put((choice, error))
        else:
            await queue.put((choice, None))

    tasks = [asyncio.create_task(pump(choice)) for choice in choices]
    try:
        running = len(choices)
        while running:
            choice, delta = await queue.get()
            if isinstance(delta, Exception):
                raise delta
            running -= delta is None
            yield choice, delta
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def usage_json(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
    }


def completion(
    stamp: Stamp, choices: Sequence[Choice], all_said: Sequence[Said], logprobs: bool, tools: Toolbox
) -> dict[str, Any]:
    """The body of an answer that was not streamed."""
    return {
        "id": stamp.id,
        "object": "chat.completion",
        "created": stamp.created,
        "model": stamp.model,
        "choices": [
            {
                "index": choice.index,
                "message": _message(said, tools),
                "logprobs": _logprobs(said.tokens) if logprobs else None,
                "finish_reason": choice.finish_reason,
            }
            for choice, said in zip(choices, all_said, strict=True)
        ],
        "usage": usage_json(usage_of(choices)),
    }


async def chunks(
    stamp: Stamp, choices: Sequence[Choice], logprobs: bool, wants_usage: bool, tools: Toolbox
) -> AsyncGenerator[bytes, None]:
    """The events of a streamed answer. The first comes with the first token: until then a failure still has its status."""
    begun = False
    async with aclosing(merged(choices)) as deltas:
        async for choice, delta in deltas:
            for each in () if begun else choices:
                yield event(_chunk(stamp, each, {"role": "assistant", "content": ""}, wants_usage))
            begun = True
            if delta is None:
                yield event(_chunk(stamp, choice, {}, wants_usage, choice.finish_reason))
                continue
            for part in _parts(delta, tools):
                yield event(_chunk(stamp, choice, part, wants_usage, None, _of(delta) if logprobs else None))
    if wants_usage:
        yield event(_envelope(stamp) | {"choices": [], "usage": usage_json(usage_of(choices))})
    yield event(DONE)


def alive(stamp: Stamp, choices: Sequence[Choice], wants_usage: bool) -> bytes:
    """An event that adds nothing, which may stand before the first as well."""
    return event(_chunk(stamp, choices[0], {}, wants_usage))


def _of(delta: Delta) -> dict[str, Any] | None:
    return _logprobs(delta.tokens) if isinstance(delta, ToldText) and delta.tokens else None


def _parts(delta: Delta, tools: Toolbox) -> list[dict[str, Any]]:
    """A call is told by its name first, its arguments after, as they come."""
    match delta:
        case ToldText():
            return [{"content": delta.text}]
        case Thought():
            return [{"reasoning_content": delta.text}]
        case ToldCall():
            begun = {"tool_calls": [{"index": delta.index, **_call(delta, "", tools)}]}
            if not delta.arguments:
                return [begun]
            words = {"input": input_of(delta.arguments)} if _is_custom(delta, tools) else {"arguments": delta.arguments}
            kind = "custom" if _is_custom(delta, tools) else "function"
            return [begun, {"tool_calls": [{"index": delta.index, kind: words}]}]
        case ToldMore():
            told = {"index": delta.index, "function": {"arguments": delta.arguments}}
            return [{"tool_calls": [told]}] if delta.arguments else []


def _is_custom(call: ToldCall, tools: Toolbox) -> bool:
    offered = tools.find(call.name)
    return offered is not None and offered.kind == "custom"


def _call(call: ToldCall, arguments: str, tools: Toolbox) -> dict[str, Any]:
    if _is_custom(call, tools):
        told = {"name": call.name, "input": input_of(arguments)}
        return {"id": call.id, "type": "custom", "custom": told}
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _envelope(stamp: Stamp) -> dict[str, Any]:
    return {"id": stamp.id, "object": "chat.completion.chunk", "created": stamp.created, "model": stamp.model}


def _chunk(
    stamp: Stamp,
    choice: Choice,
    delta: dict[str, Any],
    wants_usage: bool,
    finish_reason: str | None = None,
    logprobs: dict[str, Any] | None = None,
) -> dict[str, Any]:
    told = {"index": choice.index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
    chunk = _envelope(stamp) | {"choices": [told]}
    return chunk | {"usage": None} if wants_usage else chunk


def _message(said: Said, tools: Toolbox) -> dict[str, Any]:
    text = "".join(said.text)
    message: dict[str, Any] = {
        "role": "assistant",
        "content": text if text or not said.calls else None,
        "refusal": None,
    }
    if said.thoughts:
        message["reasoning_content"] = "".join(said.thoughts)
    if said.calls:
        message["tool_calls"] = [_call(call, "".join(parts), tools) for call, parts in said.calls]
    return message


def _logprobs(tokens: Sequence[ToldToken]) -> dict[str, Any]:
    return {"content": probabilities(tokens), "refusal": None}


def probabilities(tokens: Sequence[ToldToken]) -> list[dict[str, Any]]:
    """One entry for each token."""

    def entry(piece: bytes, logprob: float) -> dict[str, Any]:
        return {"token": shown_piece(piece), "logprob": logprob, "bytes": list(piece)}

    return [
        entry(token.piece, token.logprob) | {"top_logprobs": [entry(piece, logprob) for _, piece, logprob in token.top]}
        for token in tokens
    ]
