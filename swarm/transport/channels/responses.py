"""The serving half of a channel: one task for each request of the peer, and a Fault for each that fails.

An error that swarm raised on purpose becomes the Fault it stands for. Any other is a bug of ours: it is logged with its
traceback, the peer gets INTERNAL, and all other requests go on. Knows nothing of what the requests mean.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from swarm.errors import LocalFault, SwarmError
from swarm.identity import PeerId
from swarm.records import address_block
from swarm.shares import Holder
from swarm.trace import Trace
from swarm.wire.faults import fault_of
from swarm.wire.messages import Fault, FaultCode, Forward, Message, Working

REQUEST_BYTES = 4 << 10  # what a request being served takes beside its tensor

logger = logging.getLogger(__name__)


class ReplyChannel(Protocol):
    """The channel that requests came by, as far as answering them goes."""

    peer_id: PeerId
    host: str
    closed: bool

    async def reply(self, stream: int, message: Message) -> None:
        """Answer a request. Does nothing once the channel is closed. Raises LocalFault."""

    def tell(self, stream: int, working: Working) -> None:
        """Say that a request is under way. Does nothing once the channel is closed."""

    def hold(self, change: int) -> None:
        """So many bytes more (or fewer) are in this machine's memory for the peer's sake."""


class Exchange:
    """One request being served: who asks, and how to say that it is still under way."""

    __slots__ = ("_stream", "channel")

    def __init__(self, channel: ReplyChannel, stream: int) -> None:
        self.channel = channel
        self._stream = stream

    @property
    def peer_id(self) -> PeerId:
        return self.channel.peer_id

    @property
    def holder(self) -> Holder:
        """The peer and its address block, for limits."""
        return Holder(self.channel.peer_id, address_block(self.channel.host))

    @property
    def closed(self) -> bool:
        """Whether the channel has ended: no reply will reach the peer."""
        return self.channel.closed

    def progress(self, working: Working) -> None:
        """Tell the peer. Does nothing once the channel is closed."""
        self.channel.tell(self._stream, working)

    def __repr__(self) -> str:
        return f"Exchange(stream={self._stream}, {self.channel!r})"


Handler = Callable[[Message, Exchange], Awaitable[Message]]


class Responses:
    """Owned by one channel."""

    def __init__(self, channel: ReplyChannel, handler: Handler | None, trace: Trace) -> None:
        self._channel = channel
        self._handler = handler
        self._trace = trace
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, stream: int, message: Message) -> None:
        """Serve a request. The connection bounds how many there are."""
        task = asyncio.get_running_loop().create_task(self._serve(stream, message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def cancel(self, seconds: float) -> None:
        """Cancel what is being served and wait for it to end, so long at most."""
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    async def _serve(self, stream: int, message: Message) -> None:
        size = REQUEST_BYTES + (message.tensor.data.nbytes if isinstance(message, Forward) else 0)
        self._channel.hold(size)
        try:
            session_id: bytes | None = getattr(message, "session_id", None)
            reply = await self._reply_to(stream, message, session_id)
            try:
                await self._channel.reply(stream, reply)
            except LocalFault as error:
                self._failed(error)
                await self._channel.reply(stream, fault_of(error, session_id))
        finally:
            self._channel.hold(-size)

    async def _reply_to(self, stream: int, message: Message, session_id: bytes | None) -> Message:
        if self._handler is None:
            return Fault(session_id, FaultCode.BAD_REQUEST, "this peer serves nothing on this channel", None)
        try:
            return await self._handler(message, Exchange(self._channel, stream))
        except SwarmError as error:
            if isinstance(error, LocalFault):
                self._failed(error)
            return fault_of(error, session_id)
        except Exception as error:  # a bug in serving one request must not end the other sessions
            self._failed(error)
            return Fault(session_id, FaultCode.INTERNAL, "the request failed on this side; its log says why", None)

    def _failed(self, error: Exception) -> None:
        peer = self._channel.peer_id.short
        logger.error("a request of peer %s failed here", peer, exc_info=error)
        self._trace.failed("channel.serve", peer=peer, error=repr(error))

    def __len__(self) -> int:
        return len(self._tasks)
