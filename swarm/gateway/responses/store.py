"""Responses that may be gone on from: kept in memory, each for its owner, the one used last going last. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from swarm.gateway.http.errors import UnknownResponse

MAX_STORED = 1024
MAX_STORED_CHARACTERS = 64 << 20  # of all conversations together


@dataclass(frozen=True, slots=True)
class Stored:
    """A response with the whole conversation that led to it."""

    body: Mapping[str, Any]
    messages: tuple[Mapping[str, Any], ...]  # its own answer included
    items: tuple[Mapping[str, Any], ...]  # of its input
    characters: int


class ResponseStore:
    """By id and owner."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], Stored] = OrderedDict()
        self._characters = 0
        self._written: dict[tuple[str, str], Mapping[str, Any]] = {}  # items of kept answers, by owner and id

    def put(self, owner: str, body: Mapping[str, Any], messages: tuple[Mapping[str, Any], ...], items: Any) -> None:
        size = sum(len(str(each)) for each in (body, *messages, *items))
        self._kept[owner, body["id"]] = Stored(body, messages, tuple(items), size)
        self._characters += size
        self._written |= {(owner, item["id"]): item for item in body.get("output", ())}
        while len(self._kept) > MAX_STORED or (self._characters > MAX_STORED_CHARACTERS and len(self._kept) > 1):
            self._forget(*next(iter(self._kept)))

    def get(self, owner: str, name: str) -> Stored:
        """Raises UnknownResponse."""
        try:
            self._kept.move_to_end((owner, name))
        except KeyError:
            raise UnknownResponse(f"no response {name!r} of yours is kept here") from None
        return self._kept[owner, name]

    def delete(self, owner: str, name: str) -> None:
        """Raises UnknownResponse."""
        self.get(owner, name)
        self._forget(owner, name)

    def item(self, owner: str, name: str) -> Mapping[str, Any] | None:
        """A piece of an answer that is kept; None if it is not, or is another owner's."""
        return self._written.get((owner, name))

    def _forget(self, owner: str, name: str) -> None:
        gone = self._kept.pop((owner, name))
        self._characters -= gone.characters
        for item in gone.body.get("output", ()):
            self._written.pop((owner, item["id"]), None)
