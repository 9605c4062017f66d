"""The outgoing half of a channel: queue, order, backpressure, and the Pings that measure while sending.

Hands the stream no more than it can send now, and no more pieces of large messages than `flow_control` allows under way, so that
an urgent frame never waits behind much. Knows nothing of what its frames mean.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from swarm.config import ChannelConfig
from swarm.transport.base import Stream
from swarm.transport.channels.flow_control import FlowControl
from swarm.wire.frames import Frame
from swarm.wire.outbox import Outbox

QUIET_BYTES = 4 << 10  # with more than this on its way out, a Ping measures our own queue and not the link

MAX_URGENT_FRAMES = 16384  # waiting for one peer


class Sender:
    """Owned by one channel. `new_ping` makes the frames of one Ping; `on_queued` hears by how much the queue changed."""

    def __init__(
        self,
        stream: Stream,
        config: ChannelConfig,
        new_ping: Callable[[], list[Frame]],
        on_queued: Callable[[int], None],
    ) -> None:
        self.flow_control = FlowControl(config.piece_bytes)
        self.pinged_at = float("-inf")
        self._stream = stream
        self._config = config
        self._new_ping = new_ping
        self._on_queued = on_queued
        self._reported = 0  # queued bytes that `on_queued` knows of
        self._loop = asyncio.get_running_loop()
        self._outbox = Outbox()
        self._written = 0  # bytes given to the stream
        self._pings: deque[tuple[int, bool]] = deque()  # unanswered: `_written` just behind it; nothing stood before it
        self._waits: list[tuple[int, asyncio.Event]] = []  # who waits until no more than so many bytes are queued

    @property
    def crowded(self) -> bool:
        """Whether whoever has more to send must wait."""
        return self._outbox.bytes > self._config.max_outbox_bytes

    @property
    def flooded(self) -> bool:
        """Whether the peer does not read while it makes us write: nothing that may be left out should be sent."""
        return self._outbox.urgent_frames > MAX_URGENT_FRAMES

    @property
    def left(self) -> int:
        """Bytes in all that the next machine has acknowledged."""
        return self._written - self._stream.unsent

    @property
    def pending(self) -> int:
        """Bytes queued here or on their way."""
        return self._outbox.bytes + self._stream.unsent

    @property
    def waiting(self) -> bool:
        """Whether frames wait here."""
        return bool(self._outbox)

    @property
    def ping_out(self) -> bool:
        """Whether a Ping is unanswered."""
        return bool(self._pings)

    @property
    def ping_left(self) -> bool:
        """Whether an unanswered Ping has left this machine."""
        return bool(self._pings) and self.left >= self._pings[0][0]

    def push(self, message: list[Frame], *, in_turn: bool = False) -> None:
        """Queue a message, and send what the stream can take."""
        self._outbox.push(message, in_turn=in_turn)
        self.pump()

    def ping(self) -> None:
        """Send a Ping, ahead of everything that is queued."""
        self._write(self._ping_parts())

    def ponged(self) -> None:
        """The oldest Ping was answered: the peer has read what stood before it. The connection knows that there is one."""
        _, clean = self._pings.popleft()
        self.flow_control.ponged(self._loop.time(), clean)
        self.pump()

    def pump(self) -> None:
        """Give the stream what it can take now, joined to writes of about one piece."""
        outbox, flow = self._outbox, self.flow_control
        while outbox and not self._stream.full:
            parts: list[bytes | memoryview] = []
            size = 0
            while size < self._config.piece_bytes and (popped := outbox.pop(flow.piece_bytes)) is not None:
                (head, body), piece = popped
                parts += (head, body)
                size += len(head) + len(body)
                if piece:
                    flow.sent(len(head) + len(body))
                    if flow.wants_ping(outbox.bulk):
                        ping = self._ping_parts(size)
                        parts += ping
                        size += sum(map(len, ping))
            if not parts:
                break  # pieces wait for a Pong
            self._write(parts)
        if outbox.bulk and not self._pings:
            self.ping()
        self._report()

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
        self._report()

    def _ping_parts(self, behind: int = 0) -> list[bytes | memoryview]:
        """A Ping that is about to be written behind `behind` bytes."""
        parts = [part for frame in self._new_ping() for part in frame]
        self.pinged_at = self._loop.time()
        clean = behind == 0 and self._stream.unsent < QUIET_BYTES
        self._pings.append((self._written + behind + sum(map(len, parts)), clean))
        self.flow_control.pinged(self.pinged_at)
        return parts

    def _write(self, parts: list[bytes | memoryview]) -> None:
        self._written += sum(map(len, parts))
        self._stream.write(parts)

    def _report(self) -> None:
        """The queue may have changed."""
        waiting = self._outbox.bytes
        for most, woken in self._waits:
            if waiting <= most:
                woken.set()
        if self._waits:
            self._waits = [wait for wait in self._waits if not wait[1].is_set()]
        change, self._reported = waiting - self._reported, waiting
        if change:
            self._on_queued(change)
