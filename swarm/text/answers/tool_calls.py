"""Reads calls of tools out of an answer while it is being written. Formats are `tool_formats`' business.

What may be the beginning of a mark is held back; what is no call after all is given out as the text it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swarm.text.answers.tool_formats import Body, Tool, ToolFormat

MAX_CALLS = 128  # in one answer
MAX_CALL_CHARACTERS = 1 << 20  # of one call; longer ones are text
PYTHON_TAG = "<|python_tag|>"  # Llama's: what follows is a call
_NAME = re.compile(r"[\w.:/-]{1,128}")
_FUNCTION = re.compile(r"\s*<function=([^>\s]+)>(.*?)(?:</function>\s*)?\Z", re.S)
_PARAMETER = re.compile(r"<parameter=([^>\s]+)>\n?(.*?)\n?</parameter>", re.S)
_KEY = re.compile(r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>", re.S)
_FENCE = re.compile(r"```(?:json)?\s*(.*?)\s*(?:```\s*)?\Z", re.S)


@dataclass(frozen=True, slots=True)
class Call:
    """A tool that the model wants to have called."""

    name: str
    arguments: str  # a JSON object, as text; of a call that is not whole, its beginning
    whole: bool = True


@dataclass(frozen=True, slots=True)
class More:
    """The arguments of the call before go on; after `last` they are whole."""

    arguments: str
    last: bool = False


Piece = str | Call | More


class CallReader:
    """`push` text as it comes, `finish` at its end; both give text that is certain to be none of a call, and calls."""

    def __init__(self, form: ToolFormat, tools: Sequence[Tool]) -> None:
        self._form = form
        self._types = {tool["function"]["name"]: tool["function"].get("parameters") or {} for tool in tools}
        self._held = ""
        self._inside = False  # after a beginning mark
        self._after = False  # a call has just ended
        self._begun = bool(form.begin)  # whether the answer's first character has been seen
        self.calls = 0

    def push(self, text: str) -> list[Piece]:
        self._held += text
        pieces: list[Piece] = []
        while (more := self._next(last=False)) is not None:
            pieces += more
        return pieces

    def finish(self, cut: bool = False) -> list[Piece]:
        """What was held back."""
        pieces: list[Piece] = []
        while (more := self._next(last=True)) is not None:
            pieces += more
        held, self._held = self._held, ""
        return [*pieces, held] if held else pieces

    def _next(self, last: bool) -> list[Piece] | None:
        """The next pieces; None when there is nothing (more) that is certain."""
        if self._after:  # what separates calls is part of none, and no text either
            self._held = self._held.lstrip("\n" if self._form.begin else "\n ;")
            if not self._held:
                return None
            self._after = False
            self._inside = not self._form.begin and self._held.startswith("{")
        return self._call(last) if self._inside else self._outside()

    def _outside(self) -> list[Piece] | None:
        if not self._form.begin:
            return self._bare()
        before, mark, after = self._held.partition(self._form.begin)
        if mark:
            self._held, self._inside = after, True
            return [before] if before.strip() else []
        keep = overlap(self._held, self._form.begin)
        ready, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return [ready] if ready else None

    def _bare(self) -> list[Piece] | None:
        """Without marks the first character decides."""
        if self._begun:
            ready, self._held = self._held, ""
            return [ready] if ready else None
        start = self._held.lstrip()
        if start.startswith(PYTHON_TAG):
            self._held, self._begun, self._inside = start.removeprefix(PYTHON_TAG), True, True
            return []
        if not start or PYTHON_TAG.startswith(start):
            return None
        self._begun = True
        self._inside = start.startswith("{")
        return []

    def _call(self, last: bool) -> list[Piece] | None:
        """The body of a call, once it is whole."""
        end = self._form.end
        size = self._size(last)
        if size is None:
            return None
        body, rest = self._held[:size], self._held[size:]
        closed = bool(end) and rest.startswith(end)
        rest = rest[len(end) :] if closed else rest
        self._inside = False
        calls = _READERS[self._form.body](body, self._form, self._types)
        if not calls:
            self._held, self._begun = rest, True
            return [self._form.begin + body + (end if closed else "")]
        self._held, self._after = rest, True
        self.calls += len(calls)
        return [*calls] if self.calls <= MAX_CALLS else []

    def _size(self, last: bool) -> int | None:
        """Characters of the body that is held, without its end mark; None while it is not whole."""
        end, text = self._form.end, self._held
        if end and (place := text.find(end)) >= 0:
            return place
        whole = self._json_end() if self._form.body in ("object", "list", "named") else None
        if whole is not None and not (end and not last and end.startswith(text[whole:].strip())):
            return whole  # else the end mark is on its way
        return len(text) if last or len(text) > MAX_CALL_CHARACTERS else None

    def _json_end(self) -> int | None:
        """Where the JSON value that the body holds ends; None while it has not."""
        text, start = self._held, 0
        if self._form.body == "named" and not text.lstrip().startswith("["):
            mark = text.find(self._form.between)
            if mark < 0:
                return None
            start = mark + len(self._form.between)
        start += len(text[start:]) - len(text[start:].lstrip())
        if text[start : start + 1] not in ("{", "["):
            return None
        try:
            return _DECODER.raw_decode(text, start)[1]
        except ValueError:
            return None


_DECODER = json.JSONDecoder()


def overlap(text: str, mark: str) -> int:
    """How many of the last characters may be the beginning of a mark."""
    return next((size for size in range(min(len(text), len(mark) - 1), 0, -1) if mark.startswith(text[-size:])), 0)


def _call_of(value: Any, arguments: str) -> Call | None:
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        return None
    given = value.get(arguments, value.get("arguments", value.get("parameters", {})))
    if isinstance(given, str):
        return Call(value["name"], given)
    return Call(value["name"], json.dumps(given, ensure_ascii=False)) if isinstance(given, Mapping) else None


def _objects(body: str, form: ToolFormat, _: Mapping[str, Any]) -> list[Call]:
    """A JSON object for each call, or a list of them."""
    try:
        value = json.loads(body)
    except ValueError:
        return []
    calls = [_call_of(each, form.arguments) for each in (value if isinstance(value, list) else [value])]
    return [call for call in calls if call is not None] if None not in calls else []


def _named(body: str, form: ToolFormat, types: Mapping[str, Any]) -> list[Call]:
    """`NAME[ARGS]{…}`; older models of the family write a list instead."""
    name, mark, arguments = body.partition(form.between)
    if not mark:
        return _objects(body, form, types)
    try:
        value = json.loads(arguments)
    except ValueError:
        return []
    if not isinstance(value, Mapping) or not _NAME.fullmatch(name.strip()):
        return []
    return [Call(name.strip(), arguments.strip())]


def _functions(body: str, _: ToolFormat, types: Mapping[str, Any]) -> list[Call]:
    """`<function=NAME><parameter=KEY>value</parameter>…</function>`, as Qwen's coders write."""
    found = _FUNCTION.match(body)
    return [_typed(found[1], _PARAMETER.findall(found[2]), types)] if found else []


def _keys(body: str, _: ToolFormat, types: Mapping[str, Any]) -> list[Call]:
    """`NAME` and `<arg_key>…</arg_key><arg_value>…</arg_value>` for each argument, as GLM writes."""
    name = body.strip().partition("\n")[0].partition("<")[0].strip()
    return [_typed(name, _KEY.findall(body), types)] if _NAME.fullmatch(name) else []


def _fenced(body: str, form: ToolFormat, _: Mapping[str, Any]) -> list[Call]:
    """`function<sep>NAME` with a fenced block of JSON, or `NAME<sep>{…}`, as DeepSeek's models write."""
    first, _mark, rest = body.partition(form.between)
    name, _newline, block = (rest.partition("\n")) if first.strip() == "function" else (first, "", rest)
    fenced = _FENCE.search(block)
    arguments = fenced[1] if fenced else block.strip()
    try:
        value = json.loads(arguments)
    except ValueError:
        return []
    return [Call(name.strip(), arguments)] if isinstance(value, Mapping) and _NAME.fullmatch(name.strip()) else []


def _typed(name: str, pairs: Sequence[tuple[str, str]], types: Mapping[str, Any]) -> Call:
    """Values that are written as text are of the type that the tool's schema gives them."""
    properties = types.get(name, {}).get("properties", {})
    arguments: dict[str, Any] = {}
    for key, text in pairs:
        schema = properties.get(key.strip(), {})
        kind = schema.get("type") if isinstance(schema, Mapping) else None
        try:
            arguments[key.strip()] = text if kind == "string" else json.loads(text)
        except ValueError:
            arguments[key.strip()] = text
    return Call(name, json.dumps(arguments, ensure_ascii=False))


_READERS: Mapping[Body, Callable[[str, ToolFormat, Mapping[str, Any]], list[Call]]] = {
    "object": _objects,
    "list": _objects,
    "named": _named,
    "functions": _functions,
    "keys": _keys,
    "fenced": _fenced,
    "harmony": lambda body, form, types: [],  # its channels have a reader of their own
}
