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

    def put(self, owner: str, body: Mapping[str, Any], messages: tuple[Mapping[str, Any], ...], items: Any) -> None:
        size = sum(len(str(each)) for each in (body, *messages, *items))
        self._kept[owner, body["id"]] = Stored(body, messages, tuple(items), size)
        self._characters += size
        while len(self._kept) > MAX_STORED or (self._characters > MAX_STORED_CHARACTERS and len(self._kept) > 1):
            _, oldest = self._kept.popitem(last=False)
            self._characters -= oldest.characters

    def get(self, owner: str, name: str) -> Stored:
        """Raises UnknownResponse."""
        try:
            self._kept.move_to_end((owner, name))
        except KeyError:
            raise UnknownResponse(f"no response {name!r} of yours is kept here") from None
        return self._kept[owner, name]

    def delete(self, owner: str, name: str) -> None:
        """Raises UnknownResponse."""
        self._characters -= self.get(owner, name).characters
        del self._kept[owner, name]
