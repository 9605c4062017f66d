"""The bytes that the sessions of one stage share for what they keep of their rows. Knows nothing of tensors."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from swarm.errors import LocalFault, Overloaded, UsageFault
from swarm.span import LayerSpan


class Budget(ABC):
    """What a session takes of it is for `needed` to say; what does not fit is refused before it is computed."""

    def __init__(self, span: LayerSpan, budget: int, max_positions: int) -> None:
        self.span = span
        self.budget = budget  # bytes
        self.max_positions = max_positions  # rows that one session may have
        self.reserved = 0  # bytes
        self.sessions = 0

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} of layers {self.span}: {self.sessions} sessions, "
            f"{self.reserved} of {self.budget} bytes>"
        )

    @abstractmethod
    def needed(self, max_rows: int, span: LayerSpan) -> int:
        """Bytes that a session takes of the budget."""

    @abstractmethod
    def tokens_of(self, size: int) -> int:
        """Rows through all layers of the span that sessions of so many bytes may have."""

    @property
    def tokens_free(self) -> int:
        """Rows through all layers of the span that may still be reserved."""
        return self.tokens_of(self.budget - self.reserved)

    def reserve(self, max_rows: int, span: LayerSpan) -> int:
        """Take room for a session: its bytes. Raises Overloaded with numbers, UsageFault for what can never be had."""
        if not self.span.covers(span):
            raise UsageFault(f"a session over layers {span} was asked of a worker that holds layers {self.span}")
        if not 1 <= max_rows <= self.max_positions:
            raise UsageFault(f"a session of {max_rows} tokens: the model's context takes 1 to {self.max_positions}")
        needed = self.needed(max_rows, span)
        self._check(max_rows, span, needed, needed)
        self.reserved += needed
        self.sessions += 1
        return needed

    def extend(self, reserved: int, max_rows: int, span: LayerSpan) -> int:
        """A session that has reserved so much gets room for so many rows: its bytes. Raises as `reserve` does."""
        if max_rows > self.max_positions:
            raise UsageFault(f"a session of {max_rows} tokens: the model's context takes {self.max_positions}")
        needed = self.needed(max_rows, span)
        self._check(max_rows, span, needed, needed - reserved)
        self.reserved += needed - reserved
        return needed

    def _check(self, max_rows: int, span: LayerSpan, needed: int, more: int) -> None:
        if more <= self.budget - self.reserved:
            return
        never = needed > self.budget
        raise Overloaded(
            f"a cache of {max_rows} tokens over layers {span} takes {needed} bytes; of the {self.budget} that the "
            f"cache may use, {self.budget - self.reserved} are free ({self.tokens_free} tokens, "
            f"{self.sessions} sessions are open)" + (": it will never fit" if never else ""),
            retry_after=math.inf if never else 1.0,
        )

    def release(self, reserved: int) -> None:
        """A session that has reserved so much is closed."""
        self.reserved -= reserved
        self.sessions -= 1

    def shrink(self, reserved: int, needed: int) -> None:
        """A session that has reserved so much keeps what it needs."""
        self.reserved -= reserved - needed


class Reservation:
    """One session's share of a budget, and how many rows of what it keeps there are valid."""

    def __init__(self, pool: Budget, span: LayerSpan, max_rows: int, reserved: int) -> None:
        self.span = span
        self.max_rows = max_rows
        self.position = 0  # rows that are valid; the next row's position
        self._pool = pool
        self._reserved = reserved  # bytes
        self._open = True

    def __repr__(self) -> str:
        state = "" if self._open else ", closed"
        return f"<{type(self).__name__} of layers {self.span}: {self.position} of {self.max_rows} rows{state}>"

    def check_room(self, rows: int) -> None:
        """Raises UsageFault when that many rows are more than were reserved, LocalFault when closed."""
        if not self._open:
            raise LocalFault(f"{self!r} was used after it was closed")
        if rows > self.max_rows:
            raise UsageFault(f"the session was opened for {self.max_rows} tokens; {rows} do not fit")

    def extend(self, max_rows: int) -> None:
        """Reserve room for so many rows in all. Raises Overloaded with numbers, UsageFault for what can never be had."""
        self._reserved = self._pool.extend(self._reserved, max_rows, self.span)
        self.max_rows = max_rows
