"""Which layers a new worker should hold. Knows the records of its model and what its layers take, nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from swarm.errors import UsageFault
from swarm.records import PeerRecord, PeerState
from swarm.routing.balance import Offer, best_span, move, offered
from swarm.routing.finder import coverage, newest_records
from swarm.routing.moves import destination
from swarm.span import LayerSpan, held_in_part

COUNTED = (PeerState.SERVING, PeerState.LOADING)
BELIEVED = 100.0  # times the typical speed, that an announcement counts at most: a claim must not keep others away
MOST_ROWS = 1e9  # rows a second, likewise


def fitting_spans(sizes: Sequence[int], room: int, bonds: Iterable[LayerSpan] = ()) -> list[LayerSpan]:
    """For each layer from which on anything fits into the room, the longest span that does and cuts no bond.

    `sizes` are those of all layers.
    """
    bonds, spans = tuple(bonds), []
    for start in range(len(sizes)):
        taken, longest = 0, None
        for layer in range(start, len(sizes)):
            taken += sizes[layer]
            if taken > room:
                break
            span = LayerSpan(start, layer + 1)
            longest = longest if held_in_part(span, bonds) else span
        if longest is not None:
            spans.append(longest)
    return spans


def choose_span(records: Iterable[PeerRecord], layer_count: int, spans: Sequence[LayerSpan], now: float) -> LayerSpan:
    """Of the spans that a worker can hold, the one that fills most holes; of those the one that lifts the slowest layers most.

    Layers have what their workers announce, in rows a second; the worker itself, and any that has measured nothing yet, counts
    as a typical one. A worker that comes back leaves its own old record out. Raises UsageFault when there is none to choose
    from.
    """
    if not spans:
        raise UsageFault(
            "the memory this worker may use holds no layers that can stand alone: raise --max-memory or use another machine"
        )
    counted = _counted(records, now)
    typical = _typical(counted)
    rest = offered(_holders(counted, typical, now), layer_count)
    return best_span(Offer(tuple(spans), typical), rest, demand(counted, layer_count))[0]


def better_span(
    mine: PeerRecord, others: Iterable[PeerRecord], spans: Sequence[LayerSpan], now: float
) -> LayerSpan | None:
    """The span, of those that a worker can hold, to which it should move, or None if it should stay; see `balance.move`.

    Others count where they are bound to be: who moves is there already, who leaves is nowhere.
    """
    counted, layer_count = _counted(others, now), mine.model.layer_count
    typical = _typical([*counted, mine])
    speed = _speed(mine) or typical
    rates = offered([*_holders(counted, typical, now), (mine.span, speed / len(mine.span))], layer_count)
    return move(Offer(tuple(spans), speed), mine.span, rates, demand([*counted, mine], layer_count))


def _counted(records: Iterable[PeerRecord], now: float) -> list[PeerRecord]:
    return [record for record in newest_records(records) if record.state in COUNTED and not record.expired(now)]


def _typical(records: Iterable[PeerRecord]) -> float:
    """The speed of a worker of which none is known, in layers × rows a second."""
    measured = [speed for record in records if (speed := _speed(record)) > 0]
    return median(measured) if measured else 1.0


def _holders(records: Iterable[PeerRecord], typical: float, now: float) -> list[tuple[LayerSpan, float]]:
    """The layers where each is bound to be, and the rows a second that it offers them."""
    holders = []
    for record in records:
        span, speed = destination(record, now), min(_speed(record), BELIEVED * typical) or typical
        if span is not None:
            holders.append((span, speed / len(span)))
    return holders


def demand(records: Iterable[PeerRecord], layer_count: int) -> list[float]:
    """Rows a second that each layer is asked. All alike unless every layer has a holder who tells: what is not told is not
    nothing."""
    told = [(record.span, min(record.asked, MOST_ROWS)) for record in records if record.asked is not None]
    known = offered(((span, 1.0) for span, _ in told), layer_count)
    return offered(told, layer_count) if all(known) else [1.0] * layer_count


def at_most(spans: Iterable[LayerSpan], layers: int, bonds: Iterable[LayerSpan] = ()) -> list[LayerSpan]:
    """Each of the spans, cut to so many layers at most; those that then cut a bond are left out."""
    bonds = tuple(bonds)
    cut = [LayerSpan(span.start, min(span.stop, span.start + layers)) for span in spans]
    return [span for span in cut if not held_in_part(span, bonds)]


def _speed(record: PeerRecord) -> float:
    """Layers × rows a second, as announced; 0.0 where nothing was measured."""
    return min(record.tokens_per_second or 0.0, MOST_ROWS) * len(record.span)


def ahead_of(mine: PeerRecord, others: Iterable[PeerRecord]) -> list[PeerRecord]:
    """Of workers that choose at the same moment those that choose first: who serves already, and of those that are loading who
    has the lower id. Each leaves it to those, so that no two take the same layers for not having heard of each other."""
    return [
        record
        for record in others
        if record.peer_id != mine.peer_id and (record.state is not PeerState.LOADING or record.peer_id < mine.peer_id)
    ]


def needless(span: LayerSpan, others: Iterable[PeerRecord], layer_count: int, now: float) -> bool:
    """Whether every layer of a span is held by somebody else, while some layer of the model is held by nobody."""
    replicas = coverage(others, layer_count, now, COUNTED)
    return all(replicas[span.start : span.stop]) and not all(replicas)
