"""The chain of least predicted time among all there are: a shortest path over (worker, layer), by dynamic programming.

A row enters a worker at some layer, goes through as many as that holds, or fewer, and on to another, or home. Paths lead only
from lower layers to higher ones, so places are looked at in order, each once (Bellman, "On a routing problem", 1958).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from swarm.records import PeerRecord
from swarm.routing.cost import Prices
from swarm.span import LayerSpan


@dataclass(frozen=True, slots=True)
class Leg:
    """A worker's part of a path."""

    record: PeerRecord
    part: LayerSpan


@dataclass(slots=True)
class _Path:
    """To where a worker has computed some layers."""

    seconds: float
    began: int  # the layer at which a row entered it
    before: tuple[int, int] | None  # the worker before it, and the place where that ended; None: the client


def shortest(
    records: Sequence[PeerRecord], span: LayerSpan, prices: Prices, bonds: Sequence[LayerSpan] = ()
) -> tuple[list[Leg], float]:
    """Legs over `span`, which the records cover, and the seconds of one decode row. No leg ends within a bond. Ties fall to the
    record that comes first."""
    numbers = range(len(records))
    layer = [prices.layer_seconds(record) for record in records]
    waiting = [prices.waiting(record) for record in records]
    trips = [[prices.one_way(one, other) for other in records] for one in records]
    ended: dict[int, dict[int, _Path]] = {}  # by place and worker: the best path that ends there
    inside: dict[int, tuple[int, _Path]] = {}  # by worker: the best path within it, and how far its seconds count
    for place in _places(records, span, bonds):
        arrivals = ended[place] = {}
        for number, (reached, path) in inside.items():
            if place <= records[number].span.stop:
                arrivals[number] = _Path(path.seconds + layer[number] * (place - reached), path.began, path.before)
        inside = {number: (place, path) for number, path in arrivals.items() if place < records[number].span.stop}
        if place == span.stop:
            break
        for number in numbers:
            if place not in records[number].span:
                continue
            if place == span.start:
                entry: tuple[float, int | None] = (prices.one_way(None, records[number]), None)
            else:
                ways = [
                    (path.seconds + trips[other][number], other) for other, path in arrivals.items() if other != number
                ]
                if not ways:
                    continue
                entry = min(ways)
            seconds, other = entry
            known = inside.get(number)
            if known is None or seconds + waiting[number] < known[1].seconds:
                before = None if other is None else (other, place)
                inside[number] = place, _Path(seconds + waiting[number], place, before)
    home = [(path.seconds + prices.one_way(records[number], None), number) for number, path in ended[span.stop].items()]
    seconds, number = min(home)
    legs: list[Leg] = []
    at: tuple[int, int] | None = (number, span.stop)
    while at is not None:
        path = ended[at[1]][at[0]]
        legs.append(Leg(records[at[0]], LayerSpan(path.began, at[1])))
        at = path.before
    return legs[::-1], seconds


def _places(records: Sequence[PeerRecord], span: LayerSpan, bonds: Sequence[LayerSpan]) -> list[int]:
    """Where a leg of the shortest chain may end: where somebody's layers begin or end, or a bond does. Between two of these
    moving an end makes a chain longer or shorter by as much for each layer, so that one of them is as good."""
    ends = {end for each in (*(record.span for record in records), *bonds) for end in (each.start, each.stop)}
    inner = {end for end in ends if span.start < end < span.stop and not _within(end, bonds)}
    return [span.start, *sorted(inner), span.stop]


def _within(place: int, bonds: Sequence[LayerSpan]) -> bool:
    return any(bond.start < place < bond.stop for bond in bonds)
