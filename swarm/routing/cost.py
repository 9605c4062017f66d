"""How long a hop is expected to take for one decode row. What is not measured is assumed, by name, and alike for all."""

from __future__ import annotations

from dataclasses import dataclass

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


def predicted_seconds(record: PeerRecord, part: LayerSpan, measurement: Measurement) -> float:
    """Seconds from sending one row to the worker until its result is back, for the layers `part` of its span.

    A round trip, the wait for the rows that are queued, and the layers' share of a step through the whole span. The wait
    does not shrink with `part`. The bytes of one row are too few for the link's rate to count.
    """
    round_trip = ASSUMED_ROUND_TRIP if measurement.round_trip is None else _bounded(measurement.round_trip)
    announced = 1 / record.tokens_per_second if record.tokens_per_second else None
    observed = measurement.step_seconds or None
    # An observed step holds the queueing of its time, the announced speed was taken idle: the faster one is the step
    # itself, and what is observed beyond it is waiting.
    step = min(
        (_bounded(x) for x in (announced, observed) if x is not None), default=ASSUMED_LAYER_SECONDS * len(record.span)
    )
    queued = step * max(0, measurement.queue_rows) / TILE_ROWS
    waiting = max(_bounded(queued), _bounded(observed or 0.0) - step)
    return round_trip + waiting + step * len(part) / len(record.span)


def _bounded(seconds: float) -> float:
    # In this order of arguments not-a-number becomes 0.
    return min(LONGEST_SECONDS, max(0.0, seconds))
