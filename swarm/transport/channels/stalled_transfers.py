"""Whether a peer sends on what it has begun to send: a frame, or a message of several frames. Pure: time is passed in.

Buffers wait for the rest of a frame. Whoever drips byte after byte would keep them for ever at no cost, so something that has
begun gets `frame_seconds`, and from then on the channel must bring `min_frame_rate` as long as it is unfinished. An honest sender
on a slow link is far from that: it sends one large message after the other, as fast as it can.

Time in which this process itself did not run proves nothing: a tick counts for MAX_TICK_CREDIT at most.
"""

from __future__ import annotations

from dataclasses import dataclass

TICK_SECONDS = 1.0
MAX_TICK_CREDIT = 1.5


@dataclass(frozen=True, slots=True)
class Progress:
    """What a channel has received so far."""

    received: int  # bytes
    in_frame: bool  # a frame has begun and not ended
    frames: int  # that ended
    in_message: bool  # a message of several frames has begun and not ended
    messages: int  # of those that ended


class StalledTransfers:
    """Finds them on one channel. Owned by its server."""

    def __init__(self, grace_seconds: float, rate: int) -> None:
        self._grace = grace_seconds
        self._rate = rate
        self._last: float | None = None
        self._frame = _Window()
        self._message = _Window()

    def tick(self, now: float, seen: Progress) -> str | None:
        """Call every TICK_SECONDS. Why the peer is too slow; None if it is not."""
        gap = 0.0 if self._last is None else min(now - self._last, MAX_TICK_CREDIT)
        self._last = now
        for what, window, unfinished, ended in (
            ("frame", self._frame, seen.in_frame, seen.frames),
            ("message", self._message, seen.in_message, seen.messages),
        ):
            window.see(gap, unfinished, ended, seen.received)
            came = seen.received - window.from_bytes
            if window.seconds > self._grace and came < self._rate * (window.seconds - self._grace):
                return f"{came} bytes of a {what} came within {window.seconds:.0f} s"
        return None


class _Window:
    """Since when the same thing is unfinished."""

    __slots__ = ("ended", "from_bytes", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        self.from_bytes = 0
        self.ended = -1

    def see(self, gap: float, unfinished: bool, ended: int, received: int) -> None:
        if unfinished and ended == self.ended:
            self.seconds += gap
        else:
            self.seconds, self.from_bytes, self.ended = 0.0, received, ended if unfinished else -1
