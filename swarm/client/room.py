"""How much room a session asks for, and how much of it workers can ever give. Knows nothing of what is free at the moment.

Workers' caches grow with a session, so what it may come to hold is no reason to refuse it: it reserves its prompt's rows and
those of a usual answer. A record says what caches may take, and the model's own sizes how many rows that is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from swarm.engine.backends import Model
from swarm.errors import NoRoom, PromptTooLong, UsageFault
from swarm.records import PeerRecord, PeerState
from swarm.span import LayerSpan

USUAL_ANSWER = 512  # rows that a session reserves beyond those it is sure of; beyond them its caches grow
MAX_KNOWN = 1024  # spans and budgets whose rows are remembered

RowsOf = Callable[[PeerRecord], int]  # that one session may come to hold at a worker, through all of its layers


@dataclass(frozen=True, slots=True)
class Room:
    """Rows that a session wants."""

    least: int  # without which it is of no use: its prompt's, and one
    most: int  # it may come to hold

    @classmethod
    def whole(cls, rows: int) -> Room:
        """All that a session will hold is known."""
        return cls(rows, rows)

    def needed(self, held: int = 0) -> int:
        """By a session that holds so many rows."""
        return max(self.least, min(self.most, held + 1))

    def usual(self, held: int = 0) -> int:
        """To be reserved for one that holds so many rows."""
        return min(self.most, self.needed(held) + USUAL_ANSWER)

    def wishes(self, held: int = 0) -> tuple[int, int]:
        """What to look for in workers, the better first."""
        return self.usual(held), self.needed(held)

    def check(self, rows: int) -> None:
        """Whether a session may come to hold so many. Raises UsageFault."""
        if rows > self.most:
            raise UsageFault(f"rows up to {rows} of a session opened for {self.most}")


def prompt_too_long(room: Room, error: NoRoom, name: str) -> PromptTooLong:
    """What a prompt's owner is told of it."""
    tokens = room.least - 1
    return PromptTooLong(
        f"the prompt has {tokens} tokens; there is room for {error.most} in the caches of the machines that compute {name}, "
        "answer included: shorten it, or add a worker with more memory",
        tokens,
        error.most,
    )


def rows_within(opened: Model, span: LayerSpan, precision: str, size: int) -> int:
    """How many rows a session may have in all layers of a span whose caches take so many bytes."""
    context = opened.spec.max_positions
    weights = opened.footprint(span, precision)
    lengths = range(1, context + 1)
    return bisect_right(lengths, size, key=lambda rows: opened.footprint(span, precision, rows) - weights)


def rows_of_records(opened: Model) -> RowsOf:
    """For records of this model. A precision that is not known here is left to the worker to judge."""

    @lru_cache(MAX_KNOWN)
    def rows(span: LayerSpan, precision: str, size: int) -> int:
        try:
            return rows_within(opened, span, precision, size)
        except UsageFault:
            return opened.spec.max_positions

    return lambda record: rows(record.span, record.precision, record.memory_free)


def chain_rows(records: Iterable[PeerRecord], span: LayerSpan, rows_of: RowsOf) -> int:
    """That a session may come to hold over a chain of the roomiest workers, of one precision; 0 where layers are missing."""
    by_precision: dict[str, list[int]] = {}
    for record in records:
        if record.state is not PeerState.SERVING:
            continue
        most = by_precision.setdefault(record.precision, [0] * len(span))
        rows = rows_of(record)
        for layer in range(max(span.start, record.span.start), min(span.stop, record.span.stop)):
            most[layer - span.start] = max(most[layer - span.start], rows)
    return max((min(most) for most in by_precision.values()), default=0)
