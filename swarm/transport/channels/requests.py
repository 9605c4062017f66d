"""The asking half of a channel: who waits for which reply, and what a live peer has lost. Knows nothing of frames."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from swarm.errors import PeerFault, PeerStalled
from swarm.identity import PeerId
from swarm.transport.channels.lost_requests import LOST_SECONDS, LostRequests
from swarm.wire.faults import error_of
from swarm.wire.messages import Fault, Message, Working


@dataclass(slots=True)
class _Waiter:
    reply: asyncio.Future[Message]
    on_working: Callable[[Working], None] | None


class Requests:
    """Owned by one channel."""

    def __init__(self, peer_id: PeerId) -> None:
        self._peer_id = peer_id
        self._loop = asyncio.get_running_loop()
        self._waiters: dict[int, _Waiter] = {}  # by stream
        self._lost = LostRequests()

    def begin(self, stream: int, on_working: Callable[[Working], None] | None) -> asyncio.Future[Message]:
        """A request leaves; the reply is to be awaited, and the stream then forgotten."""
        waiter = self._waiters[stream] = _Waiter(self._loop.create_future(), on_working)
        self._lost.asked(stream, self._loop.time())
        return waiter.reply

    def forget(self, stream: int) -> None:
        self._waiters.pop(stream, None)
        self._lost.ended(stream)

    def answered(self, stream: int, message: Message, ends: bool) -> None:
        waiter = self._waiters.get(stream)
        if waiter is None or waiter.reply.done():
            return  # its asker was cancelled
        self._lost.heard(stream, self._loop.time())
        if isinstance(message, Fault):
            waiter.reply.set_exception(error_of(message, self._peer_id))
        elif ends:
            waiter.reply.set_result(message)
        elif waiter.on_working is not None and isinstance(message, Working):
            try:
                waiter.on_working(message)
            except Exception as error:  # the asker's own callback failed: its request fails, not the channel
                waiter.reply.set_exception(error)

    def pinged(self, behind_all: bool) -> None:
        """A Ping was written; `behind_all`: behind every request so far."""
        self._lost.pinged(self._loop.time(), behind_all)

    def ponged(self, arriving: bool) -> None:
        """The oldest Ping was answered; `arriving`: while a large message comes in. Requests that are lost fail."""
        for stream in self._lost.ponged(arriving):
            waiter = self._waiters[stream]
            if not waiter.reply.done():
                what = f"answers Pings and has said nothing of a request for {LOST_SECONDS:g} s"
                waiter.reply.set_exception(PeerStalled(f"peer {self._peer_id.short} {what}"))

    def wants_ping(self) -> bool:
        return self._lost.wants_ping(self._loop.time())

    def fail(self, fault: Callable[[], PeerFault]) -> None:
        """The channel ended: everybody gets a fault of their own."""
        for waiter in self._waiters.values():
            if not waiter.reply.done():
                waiter.reply.set_exception(fault())

    def __len__(self) -> int:
        return len(self._waiters)
