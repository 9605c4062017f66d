"""Is a silent peer stalled? Decides from what was heard and what has left, once a tick. Pure: time is passed in.

Any byte received is life. While a Ping of ours is still on its way out behind a large upload, bytes leaving this machine are
life too: the peer cannot answer what it has not got. Once the Ping has left, only bytes from the peer count, because a
stopped process's kernel goes on acknowledging for a while.

Time in which this process itself did not run proves nothing about the peer: a tick counts for MAX_TICK_CREDIT at most, and
after a long gap the peer is given REPRIEVE_SECONDS to be heard, once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from swarm.config import ChannelConfig

TICK_SECONDS = 0.25
MAX_TICK_CREDIT = 0.5  # seconds of silence that one tick may add, however late it comes
LONG_GAP_SECONDS = 1.0  # between two ticks: this process was stopped or starved
REPRIEVE_SECONDS = 1.0  # two heartbeats
ROUND_TRIPS = 8  # added to the silence allowed
UPLOAD_BYTES = 4096  # more than this on its way out is an upload, not just a Ping


class Verdict(Enum):
    FINE = "fine"
    PING = "ping"  # ask for a sign of life
    STALLED = "stalled"


@dataclass(frozen=True, slots=True)
class Sight:
    """What a channel sees at one tick."""

    now: float  # seconds, the event loop's clock
    received: int  # bytes in all
    left: int  # bytes in all that the peer's machine has acknowledged
    pending: int  # bytes that have not
    ping_out: bool  # a Ping of ours is unanswered
    ping_left: bool  # and it has left this machine
    round_trip: float | None  # seconds


class Liveness:
    """The silence of one peer while something is asked of it."""

    def __init__(self, config: ChannelConfig) -> None:
        self._config = config
        self.silent = 0.0  # seconds, as experienced by this process
        self._last: Sight | None = None
        self._reprieved = False

    def start(self, sight: Sight) -> None:
        """The first request is asked: silence begins to count."""
        self._last = sight
        self._heard()

    def limit(self, round_trip: float | None) -> float:
        """Seconds of silence after which a peer is stalled."""
        allowed = self._config.silence_seconds + ROUND_TRIPS * (round_trip or 0.0)
        return min(allowed, self._config.silence_cap_seconds)

    def tick(self, sight: Sight) -> Verdict:
        """Call every TICK_SECONDS while requests are outstanding."""
        last = self._last
        assert last is not None, "a watch is started before it ticks"
        self._last = sight
        gap = sight.now - last.now
        limit = self.limit(sight.round_trip)
        uploading = last.pending > UPLOAD_BYTES and sight.left > last.left and not last.ping_left
        if sight.received > last.received or uploading:
            self._heard()
        else:
            self.silent += min(gap, MAX_TICK_CREDIT)
            if gap > LONG_GAP_SECONDS and not self._reprieved:
                self._reprieved = True
                self.silent = min(self.silent, limit - REPRIEVE_SECONDS)
        if self.silent >= limit:
            return Verdict.STALLED
        due = self.silent >= self._config.heartbeat_seconds or gap > LONG_GAP_SECONDS or uploading
        return Verdict.PING if due and not sight.ping_out else Verdict.FINE

    def _heard(self) -> None:
        self.silent = 0.0
        self._reprieved = False

    def __repr__(self) -> str:
        return f"Liveness(silent={self.silent:.2f} s)"
