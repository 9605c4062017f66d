"""The outgoing half of a channel: queue, order, backpressure, and what can be measured while sending.

Hands the stream no more than it can send now, so that an urgent frame never waits behind more than that. Knows nothing of
what its frames mean, except which one is a Ping.
"""

from __future__ import annotations

import asyncio

from swarm.config import ChannelConfig
from swarm.transport.base import Stream
from swarm.transport.pace import Pace
from swarm.wire.frames import Frame
from swarm.wire.outbox import Outbox

QUIET_BYTES = 16 << 10  # with more than this on its way out, a Ping measures our own queue and not the link


class Sender:
    """Owned by one channel."""

    def __init__(self, stream: Stream, config: ChannelConfig) -> None:
        self.pace = Pace()
        self._stream = stream
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._outbox = Outbox()
        self._written = 0  # bytes given to the stream
        self._waits: list[tuple[int, asyncio.Event]] = []  # who waits until no more than so many bytes are queued
        self._ping_frame: Frame | None = None  # of the unanswered Ping, while it is in the outbox
        self._ping_mark: int | None = None  # `_written` just behind the unanswered Ping
        self._ping_is_clean = False  # nothing of ours stood before it
        self.pinged_at = float("-inf")

    @property
    def crowded(self) -> bool:
        """Whether whoever has more to send must wait."""
        return self._outbox.bytes > self._config.max_outbox_bytes

    @property
    def idle(self) -> bool:
        return not self._outbox

    @property
    def left(self) -> int:
        """Bytes in all that the peer's machine has acknowledged."""
        return self._written - self._stream.unsent

    @property
    def pending(self) -> int:
        """Bytes queued here or on their way."""
        return self._outbox.bytes + self._stream.unsent

    @property
    def ping_out(self) -> bool:
        return self._ping_frame is not None or self._ping_mark is not None

    @property
    def ping_left(self) -> bool:
        return self._ping_mark is not None and self.left >= self._ping_mark

    def push(self, frames: list[Frame]) -> None:
        """Queue a message, and send what the stream can take."""
        self._outbox.push(frames)
        self.pump()

    def ping(self, frames: list[Frame]) -> None:
        """Send a Ping and remember when and behind what."""
        self.pinged_at = self._loop.time()
        self._ping_is_clean = self.pending < QUIET_BYTES
        self._ping_frame, self._ping_mark = frames[0], None
        self.push(frames)

    def ponged(self) -> None:
        """The Ping was answered."""
        self._ping_frame = self._ping_mark = None
        if self._ping_is_clean or self.pace.round_trip is None:
            self.pace.round_trip_sample(self._loop.time() - self.pinged_at)

    def pump(self) -> None:
        """Give the stream what it can take now, joined to writes of about one piece."""
        outbox, stream = self._outbox, self._stream
        while outbox and not stream.full:
            parts: list[bytes | memoryview] = []
            size = 0
            while outbox and size < self._config.piece_bytes:
                frame = outbox.pop()
                parts += frame
                size += len(frame[0]) + len(frame[1])
                if frame is self._ping_frame:
                    self._ping_frame, self._ping_mark = None, self._written + size
            self._written += size
            stream.write(parts)
        if outbox:
            self.pace.waiting(self._loop.time(), self.left)
        elif self.pace.measuring:
            self.pace.drained(self._loop.time(), self.left)
        if self._waits:
            self._wake(outbox.bytes)

    async def room(self, at_most: int | None = None) -> None:
        """Wait until no more than `at_most` bytes (half of what may be queued) wait here, or sending has stopped."""
        most = self._config.max_outbox_bytes // 2 if at_most is None else at_most
        if self._outbox.bytes > most:
            woken = asyncio.Event()
            self._waits.append((most, woken))
            await woken.wait()

    def stop(self) -> None:
        """Nothing more will be sent."""
        self._outbox.clear()
        self._wake(0)

    def _wake(self, waiting: int) -> None:
        for most, woken in self._waits:
            if waiting <= most:
                woken.set()
        self._waits = [wait for wait in self._waits if not wait[1].is_set()]
