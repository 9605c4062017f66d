"""How fast one peer is reached: smoothed round trip, observed upload rate, and what follows for the tensor codec.

Pure: time is passed in.
"""

from __future__ import annotations

from swarm.wire.tensors import PLANES, RAW

CODEC_BELOW_RATE = 700e6 / 8  # bytes per second; on a faster link compressing takes longer than it saves
CODEC_FLOOR_BYTES = 2048  # smaller bodies fit two packets either way
MIN_SAMPLE_BYTES = 96 << 10  # a shorter burst fits buffers on the way and says nothing of the link
MIN_SAMPLE_SECONDS = 1e-4
_ROUND_TRIP_GAIN = 1 / 8  # of a new sample, as in RFC 6298
_RATE_GAIN = 1 / 2  # the same for rates: few samples, and links change


class Pace:
    """Measurements of one channel."""

    def __init__(self) -> None:
        self.round_trip: float | None = None  # seconds
        self.rate: float | None = None  # bytes per second that left, while more were waiting
        self._began: tuple[float, int] | None = None  # when the queue began to wait, and what had left by then

    def round_trip_sample(self, seconds: float) -> None:
        old = self.round_trip
        self.round_trip = seconds if old is None else old + _ROUND_TRIP_GAIN * (seconds - old)

    @property
    def measuring(self) -> bool:
        return self._began is not None

    def waiting(self, now: float, left: int) -> None:
        """The stream is full and bytes wait for it; `left` bytes have been acknowledged so far."""
        if self._began is None:
            self._began = (now, left)

    def drained(self, now: float, left: int) -> None:
        """Nothing waits any more."""
        if self._began is None:
            return
        began, before = self._began
        self._began = None
        seconds, size = now - began, left - before
        if size >= MIN_SAMPLE_BYTES and seconds >= MIN_SAMPLE_SECONDS:
            sample = size / seconds
            self.rate = sample if self.rate is None else self.rate + _RATE_GAIN * (sample - self.rate)

    def codec(self, body_bytes: int, theirs: tuple[str, ...]) -> str:
        """The codec for a tensor of so many bytes, among those that the peer can decode."""
        slow = self.rate is not None and self.rate < CODEC_BELOW_RATE
        return PLANES if slow and body_bytes >= CODEC_FLOOR_BYTES and PLANES in theirs else RAW

    def __repr__(self) -> str:
        round_trip = "unknown" if self.round_trip is None else f"{1e3 * self.round_trip:.1f} ms"
        rate = "unknown" if self.rate is None else f"{self.rate / 1e6:.1f} MB/s"
        return f"Pace(round_trip={round_trip}, rate={rate})"
