"""Choices to Anthropic's JSON: a message of content blocks, at once or as a stream of events."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

from swarm.gateway.generation.choice import Choice, Delta, ToldCall, ToldMore, ToldText, Usage, usage_of
from swarm.gateway.http.sse import event
from swarm.text.answers.harmony import Thought


def message(name: str, model: str, choice: Choice, content: list[dict[str, Any]]) -> dict[str, Any]:
    """The body of an answer that was not streamed."""
    return _message(name, model, usage_of([choice])) | _stop(choice) | {"content": content}


async def blocks(choice: Choice) -> list[dict[str, Any]]:
    """The whole of a choice as content blocks."""
    found: list[dict[str, Any]] = []
    inputs: list[list[str]] = []  # of each call
    async for delta in choice:
        block, change = _block(delta)
        if not found or not _goes_on(found[-1], delta):
            found.append(block)
            inputs += [[]] if isinstance(delta, ToldCall) else []
        _apply(found[-1], change, inputs[-1] if inputs else [])
    calls = (block for block in found if block["type"] == "tool_use")
    for block, parts in zip(calls, inputs, strict=True):
        block["input"] = _object("".join(parts))
    return [block for block in found if block.get("text") != ""]


async def events(name: str, model: str, choice: Choice) -> AsyncGenerator[bytes, None]:
    """The events of a streamed answer."""
    index, current, begun = -1, None, False
    async for delta in choice:
        if not begun:  # not before: until then a failure has its status, and what was cached is not known
            begun = True
            yield _begin(name, model, choice)
        if isinstance(delta, ToldText) and not delta.text:
            continue
        block, change = _block(delta)
        if current is None or not _goes_on(current, delta):
            if current is not None:
                yield _event("content_block_stop", index=index)
            index, current = index + 1, block
            yield _event("content_block_start", index=index, content_block=block)
        if change.get("partial_json") != "":
            yield _event("content_block_delta", index=index, delta=change)
    if not begun:
        yield _begin(name, model, choice)
    if current is not None:
        yield _event("content_block_stop", index=index)
    yield _event("message_delta", delta=_stop(choice), usage=_usage(usage_of([choice])))
    yield _event("message_stop")


def alive() -> bytes:
    """An event that says nothing, which may stand before the first as well."""
    return _event("ping")


def _begin(name: str, model: str, choice: Choice) -> bytes:
    start = _message(name, model, replace(usage_of([choice]), completion=0))
    return _event("message_start", message=start | {"content": [], "stop_reason": None, "stop_sequence": None})


def _event(kind: str, **fields: Any) -> bytes:
    return event({"type": kind, **fields}, kind)


def _goes_on(block: dict[str, Any], delta: Delta) -> bool:
    """Whether a delta belongs to the block before; every call has its own."""
    match delta:
        case ToldText():
            return bool(block["type"] == "text")
        case Thought():
            return bool(block["type"] == "thinking")
        case ToldCall():
            return False
        case ToldMore():
            return True


def _block(delta: Delta) -> tuple[dict[str, Any], dict[str, Any]]:
    """An empty block for a delta, and the change that fills it."""
    empty: dict[str, Any]
    match delta:
        case ToldText():
            return {"type": "text", "text": ""}, {"type": "text_delta", "text": delta.text}
        case Thought():
            empty = {"type": "thinking", "thinking": "", "signature": ""}
            return empty, {"type": "thinking_delta", "thinking": delta.text}
        case ToldCall():
            empty = {"type": "tool_use", "id": delta.id.replace("call_", "toolu_"), "name": delta.name, "input": {}}
            # Programs read a whole one as JSON, whatever the model wrote.
            words = json.dumps(_object(delta.arguments)) if delta.whole else delta.arguments
            return empty, {"type": "input_json_delta", "partial_json": words}
        case ToldMore():
            return {}, {"type": "input_json_delta", "partial_json": delta.arguments}


def _apply(block: dict[str, Any], change: dict[str, Any], parts: list[str]) -> None:
    """`parts`: of the input of the call that is being written."""
    match change["type"]:
        case "text_delta":
            block["text"] += change["text"]
        case "thinking_delta":
            block["thinking"] += change["thinking"]
        case "input_json_delta":
            parts.append(change["partial_json"])


def _object(text: str) -> dict[str, Any]:
    """A model may write arguments that are no JSON; they are shown as they are."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {"arguments": text}
    return value if isinstance(value, dict) else {"arguments": value}


def _message(name: str, model: str, usage: Usage) -> dict[str, Any]:
    return {"id": name, "type": "message", "role": "assistant", "model": model, "usage": _usage(usage)}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt - usage.cached,
        "cache_read_input_tokens": usage.cached,
        "cache_creation_input_tokens": 0,
        "output_tokens": usage.completion,
    }


def _stop(choice: Choice) -> dict[str, Any]:
    stop = choice.answer.stop_text
    reasons = {
        "length": "max_tokens",
        "tool_calls": "tool_use",
        "stop": "end_turn" if stop is None else "stop_sequence",
    }
    return {"stop_reason": reasons.get(choice.finish_reason or ""), "stop_sequence": stop}
