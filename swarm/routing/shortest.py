"""The chain of least predicted time among all there are: a shortest path over (worker, layer), by dynamic programming.

A row enters a worker at some layer, goes through as many as that holds, or fewer, and on to another, or home. Paths lead only
from lower layers to higher ones, so places are looked at in order, each once (Bellman, "On a routing problem", 1958).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

from swarm.records import PeerRecord
from swarm.routing.cost import Part, Prices
from swarm.span import LayerSpan


@dataclass(slots=True)
class _Beginning:
    """Of a chain, to where a worker has computed some layers."""

    seconds: float
    began: int  # the layer at which a row entered it
    before: tuple[int, int] | None  # the worker before it, and the place where that ended; None: the client


def shortest(
    records: Sequence[PeerRecord], span: LayerSpan, prices: Prices, bonds: Sequence[LayerSpan] = ()
) -> tuple[list[Part], float]:
    """The parts of a chain over `span`, which the records cover, and the seconds of one decode row. No part ends within a bond.
    Ties fall to the record that comes first."""
    layer = [prices.layer_seconds(record) for record in records]
    waiting = [prices.waiting(record) for record in records]
    home = [prices.one_way(None, record) for record in records]  # and back
    near = _measured(records, prices)
    ended: dict[int, dict[int, _Beginning]] = {}  # by place and worker: the best beginning that ends there
    inside: dict[int, _Beginning] = {}  # by worker: the best beginning that is within it, up to the place before
    previous = span.start
    for place in (place for place in range(span.start, span.stop + 1) if not _within(place, bonds)):
        arrivals = ended[place] = {
            number: _Beginning(begun.seconds + layer[number] * (place - previous), begun.began, begun.before)
            for number, begun in inside.items()
            if place <= records[number].span.stop  # else what it holds ended within a bond
        }
        inside, previous = dict(arrivals), place
        by_client = sorted((begun.seconds + home[number], number) for number, begun in arrivals.items())[:2]
        for number, record in enumerate(records):
            if place not in record.span:
                inside.pop(number, None)
            elif place == span.start:
                inside[number] = _Beginning(home[number] + waiting[number], place, None)
            else:
                ways = [(seconds + home[number], other) for seconds, other in by_client if other != number]
                ways += [(arrivals[other].seconds + trip, other) for other, trip in near[number] if other in arrivals]
                known = inside.get(number)
                seconds, other = min(ways, default=(inf, number))
                if ways and (known is None or seconds + waiting[number] < known.seconds):
                    inside[number] = _Beginning(seconds + waiting[number], place, (other, place))
    seconds, number = min((begun.seconds + home[number], number) for number, begun in ended[span.stop].items())
    return _parts(records, ended, number, span.stop), seconds


def _measured(records: Sequence[PeerRecord], prices: Prices) -> list[list[tuple[int, float]]]:
    """Of each worker those whose way to it is shorter than by the client, and how long that takes."""
    numbers = {record.peer_id: number for number, record in enumerate(records)}
    near: list[list[tuple[int, float]]] = [[] for _ in records]
    for one, other in prices.between if prices.direct else ():
        if one in numbers and other in numbers:
            first, second = numbers[one], numbers[other]
            near[second].append((first, prices.one_way(records[first], records[second])))
            near[first].append((second, prices.one_way(records[second], records[first])))
    return near


def _parts(
    records: Sequence[PeerRecord], ended: Mapping[int, Mapping[int, _Beginning]], number: int, stop: int
) -> list[Part]:
    """Back from the worker that a chain ends with."""
    parts: list[Part] = []
    at: tuple[int, int] | None = (number, stop)
    while at is not None:
        number, stop = at
        begun = ended[stop][number]
        parts.append((records[number], LayerSpan(begun.began, stop)))
        at = begun.before
    return parts[::-1]


def _within(place: int, bonds: Sequence[LayerSpan]) -> bool:
    return any(bond.start < place < bond.stop for bond in bonds)
