"""Reads calls of tools out of an answer while it is being written. Formats are `tool_formats`' business.

What may be the beginning of a mark is held back; what is no call after all is given out as the text it is. Once a call's name is
known its arguments are given out as they come.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from swarm.text.answers.call_arguments import Arguments, ObjectArguments, TaggedArguments, overlap
from swarm.text.answers.tool_formats import Body, Tool, ToolFormat

MAX_CALLS = 128  # in one answer
MAX_CALL_CHARACTERS = 1 << 20  # of one call whose name does not come; longer ones are text
PYTHON_TAG = "<|python_tag|>"  # Llama's: what follows is a call
_WORD = r"[\w.:/-]{1,128}"
_NAME = re.compile(_WORD)
_OBJECT_NAME = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")')
_OBJECT_ARGUMENTS = re.compile(r'\s*,\s*"(\w+)"\s*:\s*(?=\{)')
_LIST_START = re.compile(r"\s*\[\s*(?=\{)")
_BRACE = re.compile(r"\s*(?=\{)")
_FUNCTION = re.compile(r"\s*<function=([^>\s]+)>")
_PARAMETER = re.compile(r"\s*<parameter=([^>\s]+)>\n?")
_KEYED = re.compile(rf"\s*({_WORD})\s*(?=<)")
_KEY = re.compile(r"\s*<arg_key>(.*?)</arg_key>\s*<arg_value>", re.S)
_FENCED = re.compile(r"[^\S\n]*\n?\s*(?:```(?:json)?\s*)?(?=\{)")
_CLOSERS: Mapping[Body, tuple[str, ...]] = {
    "object": ("}",),
    "list": ("}", "]"),
    "fenced": ("```",),
    "functions": ("</function>",),
}  # what may stand between a call's arguments and the end mark


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
        self._stage: Literal["outside", "name", "arguments", "closing"] = "outside"
        self._listed = False  # the call is one of a list that goes on
        self._arguments: Arguments | None = None
        self._closers: list[str] = []  # that may still come
        self._after = False  # a call has just ended
        self._begun = bool(form.begin)  # whether the answer's first character has been seen
        self.calls = 0

    def push(self, text: str) -> list[Piece]:
        self._held += text
        return self._read(last=False, cut=False)

    def finish(self, cut: bool = False) -> list[Piece]:
        """What was held back. `cut`: there would have been more."""
        pieces = self._read(last=True, cut=cut)
        if self._stage == "arguments" and self._arguments is not None:
            pieces += self._counted([More(self._arguments.finish(cut), last=not cut)])
            self._held = ""
        held, self._held = self._held, ""
        return [*pieces, held] if held else pieces

    def _read(self, last: bool, cut: bool) -> list[Piece]:
        pieces: list[Piece] = []
        while (more := self._next(last, cut)) is not None:
            pieces += more
        return pieces

    def _next(self, last: bool, cut: bool) -> list[Piece] | None:
        """The next pieces; None when there is nothing (more) that is certain."""
        if self._stage == "arguments":
            return self._grow()
        if self._stage == "closing":
            return self._close(last)
        if self._after:  # what separates calls is part of none, and no text either
            self._held = self._held.lstrip("\n" if self._form.begin else "\n ;")
            if not self._held:
                return None
            self._after = False
            self._stage = "name" if not self._form.begin and self._held.startswith("{") else "outside"
        return self._outside() if self._stage == "outside" else self._named(last, cut)

    def _outside(self) -> list[Piece] | None:
        if not self._form.begin:
            return self._bare()
        marks = (self._form.begin, *self._form.around)
        found = min(((place, mark) for mark in marks if (place := self._held.find(mark)) >= 0), default=None)
        if found is not None:
            place, mark = found
            before, self._held = self._held[:place], self._held[place + len(mark) :]
            self._stage = "name" if mark == self._form.begin else "outside"
            return [before] if before.strip() else []
        keep = max(overlap(self._held, mark) for mark in marks)
        ready, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return [ready] if ready else None

    def _bare(self) -> list[Piece] | None:
        """Without marks the first character decides."""
        if self._begun:
            ready, self._held = self._held, ""
            return [ready] if ready else None
        start = self._held.lstrip()
        if start.startswith(PYTHON_TAG):
            self._held, self._begun, self._stage = start.removeprefix(PYTHON_TAG), True, "name"
            return []
        if not start or PYTHON_TAG.startswith(start):
            return None
        self._begun = True
        self._stage = "name" if start.startswith("{") else "outside"
        return []

    def _named(self, last: bool, cut: bool) -> list[Piece] | None:
        """A call begins once its name is known and its arguments have begun; some show only when they are whole."""
        found = _head(self._form, self._held, self._listed)
        if found is not None and (self._form.begin or found[0] in self._types):
            called, size, in_list = found
            self._held, self._listed, self._stage = self._held[size:], in_list, "arguments"
            self._arguments = _arguments_of(self._form, self._types.get(called, {}))
            return self._counted([Call(called, "", whole=False)])
        whole = self._call(last)
        if whole is None or not cut or not all(isinstance(piece, str) for piece in whole):
            return whole
        # It was cut off before its arguments: markup is nothing for a reader.
        name = _object_name(self._held if not whole else str(whole[0]).removeprefix(self._form.begin))
        if not self._form.begin and name not in self._types:
            return whole
        self._held, self._stage = "", "outside"
        return self._counted([Call(name, "", whole=False)]) if name is not None else []

    def _grow(self) -> list[Piece] | None:
        assert self._arguments is not None
        if not self._held:
            return None
        words, rest = self._arguments.push(self._held)
        self._held = rest or ""
        if rest is None:
            return self._told([More(words)]) if words else None
        self._stage, self._arguments = "closing", None
        self._closers = [*_CLOSERS.get("list" if self._listed else self._form.body, ()), self._form.end]
        return self._told([More(words, last=True)])

    def _close(self, last: bool) -> list[Piece] | None:
        """Past what ends a call; a piece of it at an answer's end is no text."""
        rest = self._held.lstrip()
        for number, closer in enumerate(self._closers):
            if closer and rest.startswith(closer):
                self._held, self._closers = rest[len(closer) :], self._closers[number + 1 :]
                return []
            if closer and closer.startswith(rest) and (rest or not last):
                if not last:
                    return None
                self._held = rest = ""
        self._stage = "outside"
        if self._listed and rest.startswith(","):
            self._held, self._stage = rest[1:], "name"
            return []
        self._listed, self._after = False, True
        return []

    def _call(self, last: bool) -> list[Piece] | None:
        """A call that shows only when its body is whole."""
        end = self._form.end
        size = self._size(last)
        if size is None:
            return None
        body, rest = self._held[:size], self._held[size:]
        closed = bool(end) and rest.startswith(end)
        rest = rest[len(end) :] if closed else rest
        if last and end.startswith(rest.strip()):  # a piece of the mark
            rest = ""
        self._stage = "outside"
        read = _READERS.get(self._form.body)
        calls = read(body, self._form) if read else []
        if not calls or (not self._form.begin and any(call.name not in self._types for call in calls)):
            self._held, self._begun = rest, True
            return [self._form.begin + body + (end if closed else "")]
        self._held, self._after = rest, True
        return self._counted([*calls])

    def _size(self, last: bool) -> int | None:
        """Characters of the body that is held, without its end mark; None while it is not whole."""
        end, text = self._form.end, self._held
        if end and (place := text.find(end)) >= 0:
            return place
        whole = self._json_end() if self._form.body in ("object", "list", "named") else None
        if whole is not None and not (end and not last and end.startswith(text[whole:].strip())):
            return whole  # else the end mark is on its way
        return len(text) if last or len(text) > MAX_CALL_CHARACTERS else None

    def _counted(self, pieces: list[Piece]) -> list[Piece]:
        self.calls += sum(isinstance(piece, Call) for piece in pieces)
        return self._told(pieces)

    def _told(self, pieces: list[Piece]) -> list[Piece]:
        return pieces if self.calls <= MAX_CALLS else []

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


def _head(form: ToolFormat, text: str, listed: bool) -> tuple[str, int, bool] | None:
    """A call's name, characters up to its arguments, and whether it is one of a list; None while they have not begun."""
    if form.body in ("functions", "keys"):
        found = (_FUNCTION if form.body == "functions" else _KEYED).match(text)
        return (found[1], found.end(), False) if found else None
    if form.body in ("named", "fenced") and not listed and not text.lstrip().startswith(("[", "{")):
        return _head_before(form, text)
    start = 0 if listed or form.body == "object" else (found.end() if (found := _LIST_START.match(text)) else 0)
    named = _OBJECT_NAME.match(text, start)
    begun = _OBJECT_ARGUMENTS.match(text, named.end()) if named else None
    name = _object_name(text[start:])
    if name is None or begun is None or begun[1] not in (form.arguments, "arguments", "parameters"):
        return None
    return name, begun.end(), listed or start > 0


def _head_before(form: ToolFormat, text: str) -> tuple[str, int, bool] | None:
    """Of a name with a mark behind it."""
    name, mark, rest = text.partition(form.between)
    if not mark:
        return None
    size = len(name) + len(mark)
    if form.body == "fenced" and name.strip() == "function":
        name, newline, _ = rest.partition("\n")
        size += len(name) + len(newline)
        if not newline:
            return None
    begun = (_FENCED if form.body == "fenced" else _BRACE).match(text, size)
    return (name.strip(), begun.end(), False) if begun and _NAME.fullmatch(name.strip()) else None


def _object_name(text: str) -> str | None:
    """What the object of a call names first."""
    found = _OBJECT_NAME.match(text)
    try:
        return str(json.loads(found[1])) if found else None
    except ValueError:
        return None


def _arguments_of(form: ToolFormat, schema: Mapping[str, Any]) -> Arguments:
    if form.body == "functions":
        return TaggedArguments(_PARAMETER, "</parameter>", schema, trims=True)
    if form.body == "keys":
        return TaggedArguments(_KEY, "</arg_value>", schema)
    return ObjectArguments()


_DECODER = json.JSONDecoder()


def _call_of(value: Any, arguments: str) -> Call | None:
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        return None
    given = value.get(arguments, value.get("arguments", value.get("parameters", {})))
    if isinstance(given, str):
        return Call(value["name"], given)
    return Call(value["name"], json.dumps(given, ensure_ascii=False)) if isinstance(given, Mapping) else None


def _objects(body: str, form: ToolFormat) -> list[Call]:
    """A JSON object for each call, or a list of them."""
    try:
        value = json.loads(body)
    except ValueError:
        return []
    calls = [_call_of(each, form.arguments) for each in (value if isinstance(value, list) else [value])]
    return [call for call in calls if call is not None] if None not in calls else []


def _lone_name(body: str, _: ToolFormat) -> list[Call]:
    """A name alone, which GLM writes for a tool without arguments."""
    return [Call(body.strip(), "{}")] if _NAME.fullmatch(body.strip()) else []


_READERS: Mapping[Body, Callable[[str, ToolFormat], list[Call]]] = {
    "object": _objects,
    "list": _objects,
    "named": _objects,  # as older models of the family write
    "keys": _lone_name,
}  # of what does not show as it is written
