"""Arguments of a call while they are being written: what is certain of them comes out as JSON at once.

Long ones, such as a file's whole text, are then shown as they grow, and one that is cut off is a call with cut arguments.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Protocol

MAX_TAG = 256  # characters of an opening tag
_PLAIN = re.compile(r'[^"\\\x00-\x1f]+')  # in a string of JSON
_OUTSIDE = re.compile(r'[^"{}\[\]]+')


class Arguments(Protocol):
    """Takes text until the arguments end."""

    def push(self, text: str) -> tuple[str, str | None]:
        """What is certain of them as JSON, and the text after their end; None while they go on."""

    def finish(self, cut: bool) -> str:
        """The rest; not `cut`: the answer has ended by itself."""


class ObjectArguments:
    """An object of JSON. Line ends in its strings are escaped, for models that write them as they are."""

    def __init__(self) -> None:
        self._depth = 0
        self._inside = False  # a string
        self._escaped = False

    def push(self, text: str) -> tuple[str, str | None]:
        parts, place = [], 0
        while place < len(text):
            found = None if self._escaped else (_PLAIN if self._inside else _OUTSIDE).match(text, place)
            part = found[0] if found else text[place]
            place += len(part)
            parts.append(part if found else self._sign(part))
            if not found and not self._inside and not self._depth:
                return "".join(parts), text[place:]
        return "".join(parts), None

    def finish(self, cut: bool) -> str:
        return ""

    def _sign(self, sign: str) -> str:
        """One character that may mean something."""
        if self._inside:
            ends = sign == '"' and not self._escaped
            self._escaped = sign == "\\" and not self._escaped
            self._inside = not ends
            return json.dumps(sign)[1:-1] if sign < " " else sign
        self._inside = sign == '"'
        self._depth += (sign in "{[") - (sign in "}]")
        return sign


class TaggedArguments:
    """Each argument between tags of its own; values are of the types that the tool's schema gives them."""

    def __init__(self, opening: re.Pattern[str], close: str, schema: Mapping[str, Any], *, trims: bool = False) -> None:
        self._opening = opening  # its group is the argument's name
        self._close = close
        properties = schema.get("properties")
        self._properties = properties if isinstance(properties, Mapping) else {}
        self._trims = trims  # a line end after the opening tag and one before the closing one are no part of the value
        self._fresh = False  # the value has just begun
        self._held = ""
        self._open: str | None = None  # the kind of the value that is being written
        self._count = 0

    def push(self, text: str) -> tuple[str, str | None]:
        self._held += text
        parts: list[str] = []
        while True:
            if self._open is not None:
                if not self._value(parts):
                    return "".join(parts), None
            elif found := self._opening.match(self._held):
                self._held = self._held[found.end() :]
                self._begin(found[1].strip(), parts)
            elif self._may_open():
                return "".join(parts), None
            else:
                rest, self._held = self._held, ""
                return "".join(parts) + ("}" if self._count else "{}"), rest

    def finish(self, cut: bool) -> str:
        part = ""
        if self._open == "string" and not cut:  # else what is held is a piece of a tag
            part = json.dumps(self._held, ensure_ascii=False)[1:]
        elif self._open is not None and not cut:
            part = self._typed(self._held)
        return part if cut else part + ("}" if self._count else "{}")

    def _may_open(self) -> bool:
        """Whether what is held may become an opening tag."""
        held = self._held.lstrip()
        start = self._opening.pattern.removeprefix(r"\s*").partition("(")[0]
        return start.startswith(held[: len(start)]) and len(held) < MAX_TAG

    def _begin(self, name: str, parts: list[str]) -> None:
        schema = self._properties.get(name)
        kind = schema.get("type") if isinstance(schema, Mapping) else None
        self._open, self._fresh = "string" if kind == "string" else "any", self._trims
        parts.append(f"{', ' if self._count else '{'}{json.dumps(name, ensure_ascii=False)}: ")
        parts.append('"' if self._open == "string" else "")
        self._count += 1

    def _value(self, parts: list[str]) -> bool:
        """Whether the value has ended."""
        if self._fresh and self._held:
            self._held, self._fresh = self._held.removeprefix("\n"), False
        value, mark, rest = self._held.partition(self._close)
        if mark:
            value = value.removesuffix("\n") if self._trims else value
            parts.append(json.dumps(value, ensure_ascii=False)[1:] if self._open == "string" else self._typed(value))
            self._held, self._open = rest, None
            return True
        if self._open == "string":
            ready = len(value) - max(
                overlap(value, self._close), overlap(value, "\n" + self._close) if self._trims else 0
            )
            parts.append(json.dumps(value[:ready], ensure_ascii=False)[1:-1])
            self._held = value[ready:]
        return False

    @staticmethod
    def _typed(text: str) -> str:
        try:
            return json.dumps(json.loads(text), ensure_ascii=False)
        except (ValueError, RecursionError):
            return json.dumps(text, ensure_ascii=False)


def overlap(text: str, mark: str) -> int:
    """How many of the last characters may be the beginning of a mark."""
    return next((size for size in range(min(len(text), len(mark) - 1), 0, -1) if mark.startswith(text[-size:])), 0)
