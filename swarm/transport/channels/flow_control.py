"""How fast one peer is reached, and how much may be under way to it. Pure: time is passed in.

Pieces of large messages are followed by Pings, and only a Pong confirms that the peer has read what stood before the Ping;
acknowledgements of TCP would speak for the next buffer on the way alone. Bytes that are written and not confirmed are kept
to what the link carries in one round trip plus QUEUE_SECONDS, so that an urgent frame meets a short queue wherever the
slow link is. (The bound on the queueing delay that one causes is LEDBAT's idea, RFC 6817; the best rate of late as the
link's is BBR's.)
"""

from __future__ import annotations

from collections import deque

from swarm.wire.tensors import PLANES, RAW

CODEC_BELOW_RATE = 700e6 / 8  # bytes per second; on a faster link compressing takes longer than it saves
CODEC_FLOOR_BYTES = 2048  # smaller bodies fit two packets either way
QUEUE_SECONDS = 0.05  # of queueing that our own large messages may cause
MIN_WINDOW_BYTES = 16 << 10
FIRST_WINDOW_BYTES = 64 << 10
MAX_WINDOW_BYTES = 64 << 20
MIN_PIECE_BYTES = 4 << 10
PIECES_PER_WINDOW = 4  # also Pings per window
CLEAN_BYTES = 4 << 10  # with more than this under way, a Ping measures our own queue
FULL_SECONDS = QUEUE_SECONDS / 8  # of queueing from which the link counts as full
SAMPLE_SECONDS = 0.01  # Pongs come in clumps; over less than this they tell no rate
_ROUND_TRIP_GAIN = 1 / 8  # of a new sample, as in RFC 6298
_RATE_SAMPLES = 8  # the best of the last so many counts: a peer short of processor time reads slowly now and then


class FlowControl:
    """Measurements of one channel."""

    def __init__(self, max_piece_bytes: int) -> None:
        self.round_trip: float | None = None  # seconds, of Pings that found an empty queue
        self.rate: float | None = None  # bytes per second to the peer's program, while more was waiting
        self.window = FIRST_WINDOW_BYTES
        self._max_piece_bytes = max_piece_bytes
        self._sent = 0  # bytes of pieces, in all
        self._asked = 0  # of those, before the last Ping
        self._confirmed = 0  # of those, before the last Ping that was answered
        self._rates: deque[float] = deque(maxlen=_RATE_SAMPLES)
        self._busy: tuple[float, int] | None = None  # since when the link has had a queue, and bytes confirmed since
        self._pings: deque[tuple[float, int, int]] = deque()  # sent at, `_sent` then, unconfirmed then

    @property
    def unconfirmed(self) -> int:
        return self._sent - self._confirmed

    @property
    def piece_bytes(self) -> int:
        """How large a piece may go now; 0 when pieces have to wait."""
        if self.unconfirmed >= self.window:
            return 0
        return max(MIN_PIECE_BYTES, min(self._max_piece_bytes, self.window // PIECES_PER_WINDOW))

    @property
    def pings_out(self) -> int:
        """Pings not yet answered."""
        return len(self._pings)

    def sent(self, size: int) -> None:
        """A piece was written."""
        self._sent += size

    def wants_ping(self, more: bool) -> bool:
        """Whether a Ping should follow what was sent; `more` pieces wait."""
        unasked = self._sent - self._asked
        if not more:
            return unasked > 0
        return unasked >= self.window // PIECES_PER_WINDOW or (unasked > 0 and not self._pings)

    def pinged(self, now: float) -> None:
        """A Ping was written."""
        self._asked = self._sent
        self._pings.append((now, self._sent, self.unconfirmed))

    def ponged(self, now: float, clean: bool) -> None:
        """The oldest Ping was answered; `clean`: nothing but pieces could have stood before it."""
        sent_at, mark, under_way = self._pings.popleft()
        fresh, self._confirmed = mark - self._confirmed, mark
        seconds = now - sent_at
        if under_way < CLEAN_BYTES:
            if clean or self.round_trip is None:
                old = seconds if self.round_trip is None else self.round_trip
                self.round_trip = old + _ROUND_TRIP_GAIN * (seconds - old)
            return
        base = seconds if self.round_trip is None else min(seconds, self.round_trip)
        queue = seconds - base
        self._rate_sample(now, fresh, busy=queue > FULL_SECONDS)
        if queue > QUEUE_SECONDS:
            rate = under_way / seconds if self.rate is None else self.rate
            self.window = max(MIN_WINDOW_BYTES, min(self.window, int(rate * (base + QUEUE_SECONDS))))
        elif under_way >= self.window // 2:
            self.window = min(MAX_WINDOW_BYTES, self.window + fresh)

    def _rate_sample(self, now: float, fresh: int, busy: bool) -> None:
        """What was confirmed over the last SAMPLE_SECONDS or more, if the link had a queue all the while."""
        if not busy:
            self._busy = None
            return
        since, size = (now, 0) if self._busy is None else (self._busy[0], self._busy[1] + fresh)
        if now - since >= SAMPLE_SECONDS:
            self._rates.append(size / (now - since))
            self.rate = max(self._rates)
            since, size = now, 0
        self._busy = (since, size)

    def codec(self, body_bytes: int, theirs: tuple[str, ...]) -> str:
        """The codec for a tensor of so many bytes, among those that the peer can decode."""
        slow = self.rate is not None and self.rate < CODEC_BELOW_RATE
        return PLANES if slow and body_bytes >= CODEC_FLOOR_BYTES and PLANES in theirs else RAW

    def __repr__(self) -> str:
        round_trip = "unknown" if self.round_trip is None else f"{1e3 * self.round_trip:.1f} ms"
        rate = "unknown" if self.rate is None else f"{self.rate / 1e6:.1f} MB/s"
        return f"FlowControl(round_trip={round_trip}, rate={rate}, window={self.window >> 10} KiB)"
