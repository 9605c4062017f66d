"""How long a worker may say Working without an end in sight. Pure: times are passed in.

The channel notices a worker that says nothing. This is for one that says Working and never answers: its event loop is well,
its work is not.
"""

from __future__ import annotations

from swarm.routing.cost import ASSUMED_LAYER_SECONDS

LEAST_SECONDS = 15.0  # whatever was measured: a machine may be that busy for a moment
CALL_ROWS = 128  # of the largest call that a worker makes
LENIENCY = 2.0  # times what the rows would take if each were computed by itself, which is ten times what they do take
MOST_CREDIT_SECONDS = 2.0  # that the time between two Workings counts: we may have been the ones who did not run


class BusyLimit:
    """For one request: `working(...)` with each Working says whether to go on waiting."""

    def __init__(self, step_seconds: float | None, layers: int) -> None:
        self.seconds = 0.0  # without movement
        self._step_seconds = step_seconds or ASSUMED_LAYER_SECONDS * layers
        self._last: float | None = None
        self._queue_rows = self._answered = 0

    @property
    def limit(self) -> float:
        """Seconds without movement that can be explained."""
        return max(LEAST_SECONDS, LENIENCY * self._step_seconds * max(CALL_ROWS, self._queue_rows))

    def working(self, now: float, queue_rows: int, answered: int = 0) -> bool:
        """False when the worker is to be left. A queue that has become shorter has moved, and so has who answered what was asked
        before; `answered` counts that."""
        if self._last is None or queue_rows < self._queue_rows or answered > self._answered:
            self.seconds = 0.0
        else:
            self.seconds += min(now - self._last, MOST_CREDIT_SECONDS)
        self._last, self._queue_rows, self._answered = now, queue_rows, answered
        return self.seconds < self.limit
