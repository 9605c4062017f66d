"""Edges between hops: a session's rows go on to the next worker's session by themselves, and come from the one before it.

What a session's owner asked for is checked here: who may push rows (`wire.tickets`), and where they go. A hand-over that fails
breaks the edge; the rows that follow tell the owner so, who then takes them on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from swarm.errors import PeerFault, SessionFault, UsageFault
from swarm.identity import PeerId
from swarm.records import Address
from swarm.trace import Trace
from swarm.transport.channels.channel import Channel
from swarm.wire.messages import Attach, Connect, Connected, Forward, Push
from swarm.wire.tensors import Tensor
from swarm.wire.tickets import admits
from swarm.worker.neighbours import Neighbours
from swarm.worker.sessions import SessionSlot

MAX_WAITING = 16  # steps that a next worker which does not read is kept for

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Edge:
    """Where the rows of one session go on."""

    epoch: int
    session_id: bytes  # the next worker's
    channel: Channel = field(repr=False)
    release: Callable[[], None] = field(repr=False)  # the channel is used no more
    broken: bool = False
    waiting: int = 0  # rows for which the channel has no room yet
    turn: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)


class Edges:
    """Of all sessions of a worker. Without neighbours it takes rows from others and hands none on."""

    def __init__(self, neighbours: Neighbours | None, trace: Trace) -> None:
        self._neighbours = neighbours
        self._trace = trace
        self._tasks: set[asyncio.Task[Any]] = set()  # as many as rows are in flight

    async def close(self) -> None:
        """What is being handed on is dropped, and nobody is dialled any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def connect(self, slot: SessionSlot, message: Connect) -> Connected:
        """The owner's wish. Raises PeerFault or Overloaded where the next worker cannot be reached or lets us not in."""
        return await self._tracked(asyncio.create_task(self._connect(slot, message), name="connect"))

    async def _connect(self, slot: SessionSlot, message: Connect) -> Connected:
        slot.let_go()
        if self._neighbours is None:
            raise UsageFault("this worker hands no rows on")
        if message.next_session == slot.session_id:
            raise UsageFault("a session's rows go on to another session")
        peer_id = PeerId(message.next_peer)
        try:
            addresses = [Address.of(host, port) for host, port in message.addresses]
        except ValueError as error:
            raise UsageFault(f"the next worker's address: {error}") from error
        release = self._neighbours.hold(peer_id)  # before it is there: it is not to be closed meanwhile
        edge: Edge | None = None
        try:
            channel = await self._admitted(peer_id, addresses, message)
            if slot.closed:
                raise SessionFault("the session was closed while its next worker was dialled")
            edge = Edge(message.epoch, message.next_session, channel, release)
        finally:
            if edge is None:
                release()
        slot.let_go()
        slot.edge = edge
        return Connected(message.session_id, message.epoch)

    async def _admitted(self, peer_id: PeerId, addresses: Sequence[Address], message: Connect) -> Channel:
        """The next worker's channel, once it has let us in. Raises SessionFault, Overloaded."""
        assert self._neighbours is not None
        try:
            channel = await self._neighbours.channel(peer_id, addresses)
            reply = await channel.request(Attach(message.next_session, message.epoch, message.ticket))
        except PeerFault as fault:
            raise SessionFault(f"the next worker cannot be used from here: {fault}") from None
        if not isinstance(reply, Connected):
            raise SessionFault(f"peer {peer_id.short} answered Attach with {type(reply).__name__}")
        return channel

    def attach(self, slot: SessionSlot, message: Attach, peer_id: PeerId) -> Connected:
        """A peer says that it is a session's predecessor. Raises SessionFault."""
        if message.epoch <= slot.epoch or not admits(
            message.ticket, slot.owner, slot.session_id, message.epoch, peer_id
        ):
            raise SessionFault("this session's owner has not named you its predecessor, or another since")
        slot.predecessor, slot.epoch = peer_id, message.epoch
        return Connected(message.session_id, message.epoch)

    def hand_on(self, slot: SessionSlot, message: Forward | Push, outputs: Tensor) -> bool:
        """Send what became of rows to the next worker, if they are to go there and it takes them."""
        edge = slot.edge
        if not message.onward or not isinstance(edge, Edge) or edge.broken or edge.channel.closed:
            return False
        if edge.waiting >= MAX_WAITING:
            edge.broken = True
            return False
        onward, step, position = message.onward - 1, message.step, message.position
        following = Push(edge.session_id, step, position, message.rows, outputs, onward, edge.epoch)
        if edge.channel.crowded or edge.waiting:  # never ahead of older rows
            self._tracked(asyncio.create_task(self._push(edge, following), name="onward"))
        else:
            edge.channel.push(following)
        return True

    def _tracked(self, task: asyncio.Task[T]) -> asyncio.Task[T]:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _push(self, edge: Edge, message: Push) -> None:
        edge.waiting += 1
        try:
            async with edge.turn:
                await edge.channel.room()
                edge.channel.push(message)
        except PeerFault as error:
            edge.broken = True
            self._trace.failed("worker.edge", peer=edge.channel.peer_id.short, error=str(error))
        finally:
            edge.waiting -= 1


def check_predecessor(slot: SessionSlot, message: Push, peer_id: PeerId) -> None:
    """Whether a peer that is not the session's owner may push these rows. Raises SessionFault."""
    if peer_id != slot.predecessor or message.epoch != slot.epoch:
        raise SessionFault(
            f"no session {message.session_id.hex()[:8]} of yours is open here: it lapsed, or was never opened"
        )
