"""Which layers a new worker should hold. Knows the records of its model and its own capacity, nothing else."""

from __future__ import annotations

from collections.abc import Iterable

from swarm.errors import UsageFault
from swarm.records import PeerRecord
from swarm.routing.finder import coverage
from swarm.span import LayerSpan


def choose_span(records: Iterable[PeerRecord], layer_count: int, capacity_layers: int, now: float) -> LayerSpan:
    """The `capacity_layers` layers in a row where the swarm is thinnest; all of the model if they fit.

    Of two places the one with more layers that nobody holds is thinner; if those are equal in number, the one with more
    layers that one worker holds, and so on; equal places fall to the lower layers. A worker that comes back leaves its own
    old record out. Raises UsageFault when not one layer fits.
    """
    if capacity_layers < 1:
        raise UsageFault(
            "the memory this worker may use does not hold one layer: raise --max-memory or use another machine"
        )
    if capacity_layers >= layer_count:
        return LayerSpan(0, layer_count)
    replicas = coverage(records, layer_count, now)
    start = min(
        range(layer_count - capacity_layers + 1), key=lambda first: sorted(replicas[first : first + capacity_layers])
    )
    return LayerSpan(start, start + capacity_layers)
