"""Which layers a new worker should hold. Knows the records of its model and what its layers take, nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from swarm.errors import UsageFault
from swarm.records import PeerRecord, PeerState
from swarm.routing.finder import coverage
from swarm.span import LayerSpan, held_in_part


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
    """Of the spans that a worker can hold, the one where the swarm is thinnest.

    Of two spans the one with more layers that nobody holds is thinner; if those are equal in number, the one with more
    layers that one worker holds, and so on; equal spans fall to the lower layers. A worker that comes back leaves its own
    old record out. Raises UsageFault when there is none to choose from.
    """
    if not spans:
        raise UsageFault(
            "the memory this worker may use holds no layers that can stand alone: raise --max-memory or use another machine"
        )
    replicas = coverage(records, layer_count, now, (PeerState.SERVING, PeerState.LOADING))
    most = max(replicas)

    def thinness(span: LayerSpan) -> tuple[int, ...]:
        held = Counter(replicas[span.start : span.stop])
        return tuple(held[count] for count in range(most + 1))

    return max(spans, key=thinness)  # of equal ones the first


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
    replicas = coverage(others, layer_count, now, (PeerState.SERVING, PeerState.LOADING))
    return all(replicas[span.start : span.stop]) and not all(replicas)
