"""How long a hop is expected to take for one decode row. What is not measured is assumed, by name, and alike for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from swarm.identity import PeerId
from swarm.records import PeerRecord
from swarm.span import LayerSpan

ASSUMED_ROUND_TRIP = 0.1  # seconds, to a peer that was not or could not be probed
ASSUMED_LAYER_SECONDS = 0.01  # one row through one layer, of a worker that says no speed
LONGEST_SECONDS = 3600.0  # claims beyond it count as this much, so that sums stay finite
TILE_ROWS = 16  # rows that a worker computes together: waiting rows cost one step for each so many


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a client knows of a worker by its own observation and from the worker's replies."""

    round_trip: float | None  # seconds; None: not measured
    queue_rows: int = 0  # rows that were waiting for its compute thread
    step_seconds: float | None = None  # recent time of one decode step through its whole span, queueing included


UNMEASURED = Measurement(None)
Part = tuple[PeerRecord, LayerSpan]  # of a chain: a worker, and which of its layers it takes


@dataclass(frozen=True, slots=True)
class Prices:
    """What the parts of a chain cost one decode row, in seconds."""

    measurements: Mapping[PeerId, Measurement]
    direct: bool = False  # workers hand rows on by themselves; else they go by the client
    between: Mapping[tuple[PeerId, PeerId], float] = field(default_factory=dict)  # round trips of workers, measured

    def one_way(self, one: PeerRecord | None, other: PeerRecord | None) -> float:
        """From one to the other; None is the client. Two workers whose distance nobody measured are no farther from each other
        than by way of the client."""
        ends = [self._round_trip(record) for record in (one, other) if record is not None]
        if self.direct and one is not None and other is not None:
            pair = one.peer_id, other.peer_id
            known = self.between.get(pair, self.between.get(pair[::-1]))
            if known is not None:
                return min(_bounded(known), sum(ends)) / 2
        return sum(ends) / 2

    def joining(self, last: PeerRecord | None, record: PeerRecord) -> float:
        """What a worker adds to the trips of a chain that has come to `last`; by way of the client, its round trip."""
        return self.one_way(last, record) if self.direct else self._round_trip(record)

    def waiting(self, record: PeerRecord) -> float:
        """Until a worker that is busy takes a row."""
        waiting, _ = _work(record, self.measurements.get(record.peer_id, UNMEASURED))
        return waiting

    def layer_seconds(self, record: PeerRecord) -> float:
        """Of one of the layers that a worker holds."""
        _, step = _work(record, self.measurements.get(record.peer_id, UNMEASURED))
        return step / len(record.span)

    def of(self, parts: Sequence[Part]) -> float:
        """Of a whole chain."""
        ends = [None, *(record for record, _ in parts), None]
        trips = sum(self.one_way(one, other) for one, other in pairwise(ends))
        return trips + sum(self.waiting(record) + self.layer_seconds(record) * len(span) for record, span in parts)

    def _round_trip(self, record: PeerRecord) -> float:
        return _trip(self.measurements.get(record.peer_id, UNMEASURED))


def predicted_seconds(record: PeerRecord, part: LayerSpan, measurement: Measurement) -> float:
    """Seconds from sending one row to the worker until its result is back, for the layers `part` of its span.

    A round trip, the wait for the rows that are queued, and the layers' share of a step through the whole span. The wait
    does not shrink with `part`. The bytes of one row are too few for the link's rate to count.
    """
    waiting, step = _work(record, measurement)
    return _trip(measurement) + waiting + step * len(part) / len(record.span)


def _trip(measurement: Measurement) -> float:
    return ASSUMED_ROUND_TRIP if measurement.round_trip is None else _bounded(measurement.round_trip)


def _work(record: PeerRecord, measurement: Measurement) -> tuple[float, float]:
    """Seconds that a row waits at a worker, and of a step through all layers that it holds."""
    announced = 1 / record.tokens_per_second if record.tokens_per_second else None
    observed = measurement.step_seconds or None
    # An observed step holds the queueing of its time, the announced speed was taken idle: the faster one is the step
    # itself, and what is observed beyond it is waiting.
    step = min(
        (_bounded(x) for x in (announced, observed) if x is not None), default=ASSUMED_LAYER_SECONDS * len(record.span)
    )
    queued = step * max(0, measurement.queue_rows) / TILE_ROWS
    return max(_bounded(queued), _bounded(observed or 0.0) - step), step


def _bounded(seconds: float) -> float:
    # In this order of arguments not-a-number becomes 0.
    return min(LONGEST_SECONDS, max(0.0, seconds))
