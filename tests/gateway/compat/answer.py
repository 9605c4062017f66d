"""What an answer of the gateway says, in whichever API's words and streamed or not."""

from __future__ import annotations

import json
from typing import Any


def read_answer(body: str) -> tuple[str, list[str]]:
    """The answer's text, and the names of the tools that it calls. Raises AssertionError where it tells of an error."""
    if not body.startswith(("event:", "data:", ":")):
        return _whole(json.loads(body))
    text, names = "", []
    for line in body.splitlines():
        if not line.startswith("data:") or line == "data: [DONE]":
            continue
        event = json.loads(line.removeprefix("data:"))
        assert not event.get("error"), event
        kind = event.get("type", "")
        if kind == "response.output_text.delta":
            text += event["delta"]
        elif kind == "response.output_item.done":
            names += [event["item"]["name"]] if event["item"]["type"].endswith("_call") else []
        elif kind == "content_block_delta":
            text += event["delta"].get("text", "")
        elif kind == "content_block_start":
            names += [event["content_block"]["name"]] if event["content_block"]["type"] == "tool_use" else []
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            text += delta.get("content") or choice.get("text") or ""
            names += [
                call["function"]["name"] for call in delta.get("tool_calls") or () if call["function"].get("name")
            ]
    return text, names


def _whole(answer: dict[str, Any]) -> tuple[str, list[str]]:
    assert not answer.get("error"), answer
    text, names = "", []
    for choice in answer.get("choices") or ():
        message = choice.get("message") or {}
        text += message.get("content") or choice.get("text") or ""
        names += [call["function"]["name"] for call in message.get("tool_calls") or ()]
    content = answer.get("content")
    for block in content if isinstance(content, list) else ():
        text += block.get("text", "")
        names += [block["name"]] if block["type"] == "tool_use" else []
    for item in answer.get("output") or ():
        text += "".join(part.get("text", "") for part in item.get("content") or ())
        names += [item["name"]] if item["type"].endswith("_call") else []
    return text, names
