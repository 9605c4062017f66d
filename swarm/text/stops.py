"""Holds back what may be the beginning of a stop, in a stream of characters or of token ids alike."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Generic, TypeVar

from swarm.errors import UsageFault

MAX_STOP_LENGTH = 1024  # characters or ids; as many are held back at most

Symbol = TypeVar("Symbol", bound=Hashable)


class Gate(Generic[Symbol]):
    """Lets symbols through up to the first stop. Of stops that end together the longest counts; it is never let out."""

    def __init__(self, stops: Iterable[Sequence[Symbol]]) -> None:
        self._matches = [_Match(stop) for stop in stops]
        self._held: list[Symbol] = []
        self.met: Sequence[Symbol] | None = None  # the stop that was

    def push(self, symbols: Iterable[Symbol]) -> tuple[list[Symbol], bool]:
        """The symbols that are certain to be before any stop, and whether a stop was met: what follows it is dropped."""
        for symbol in symbols:
            self._held.append(symbol)
            met = [match.pattern for match in self._matches if match.push(symbol)]
            if met:
                self.met = max(met, key=len)
                return self._release(len(self.met)), True
        return self._release(max((match.length for match in self._matches), default=0)), False

    def finish(self) -> list[Symbol]:
        """What was held back."""
        return self._release(0)

    def _release(self, keep: int) -> list[Symbol]:
        split = len(self._held) - keep
        released, self._held = self._held[:split], self._held[split:]
        return released


class _Match(Generic[Symbol]):
    """How much of a pattern the symbols so far end with (Knuth, Morris and Pratt 1977)."""

    def __init__(self, pattern: Sequence[Symbol]) -> None:
        if not 0 < len(pattern) <= MAX_STOP_LENGTH:
            raise UsageFault(f"a stop has 1 to {MAX_STOP_LENGTH} characters or ids, not {len(pattern)}")
        self.pattern = pattern
        self.length = 0
        self._shorter = [0] * len(pattern)  # by matched length - 1: the next shorter length that matches as well
        for place in range(1, len(pattern)):
            self.push(pattern[place])
            self._shorter[place] = self.length
        self.length = 0

    def push(self, symbol: Symbol) -> bool:
        """Whether the pattern is complete with this symbol."""
        while self.length and (self.length == len(self.pattern) or self.pattern[self.length] != symbol):
            self.length = self._shorter[self.length - 1]
        self.length += self.pattern[self.length] == symbol
        return self.length == len(self.pattern)
