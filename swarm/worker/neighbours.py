"""Channels to other workers, by which rows are handed on. Whom to dial a session's owner says; that it is the right one, its key.

Knows nothing of sessions.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from weakref import WeakValueDictionary

from swarm.config import ChannelConfig
from swarm.errors import Overloaded, PeerLost
from swarm.identity import PeerId
from swarm.records import Address
from swarm.trace import Trace
from swarm.transport.base import Network
from swarm.transport.channels.channel import Channel
from swarm.transport.channels.dial import dial

MAX_NEIGHBOURS = 64  # channels; beyond them the one of the least recent use is closed
IDLE_SECONDS = 2.0  # that a channel is kept when no session uses it: the next one may come at once
MAX_DIALS = 8  # at once: strangers may name any address


class Neighbours:
    """`async with Neighbours(...)`: leaving closes every channel."""

    def __init__(self, network: Network, config: ChannelConfig, trace: Trace) -> None:
        self._network = network
        self._config = config
        self._trace = trace
        self._channels: OrderedDict[PeerId, Channel] = OrderedDict()  # least recently used first
        self._dialling: WeakValueDictionary[PeerId, asyncio.Lock] = WeakValueDictionary()
        self._used: Counter[PeerId] = Counter()  # by so many sessions
        self._dials = 0
        self._closed = False

    async def __aenter__(self) -> Neighbours:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._closed = True
        channels, self._channels = list(self._channels.values()), OrderedDict()
        await asyncio.gather(*(channel.aclose() for channel in channels), return_exceptions=True)

    async def channel(self, peer_id: PeerId, addresses: Sequence[Address]) -> Channel:
        """The channel to that worker, dialled if there is none. Raises PeerFault, Overloaded."""
        lock = self._dialling.setdefault(peer_id, asyncio.Lock())
        async with lock:
            channel = self._channels.get(peer_id)
            if channel is None or channel.closed:
                channel = self._channels[peer_id] = await self._dial(peer_id, addresses)
            self._channels.move_to_end(peer_id)
        while len(self._channels) > MAX_NEIGHBOURS:
            _, old = self._channels.popitem(last=False)
            old.abort("others are used more")
        return channel

    def hold(self, peer_id: PeerId) -> Callable[[], None]:
        """One more session hands rows to that worker; what is returned says, once, that it no longer does."""
        self._used[peer_id] += 1
        return partial(self._release, peer_id)

    def _release(self, peer_id: PeerId) -> None:
        self._used[peer_id] -= 1
        if not self._used[peer_id]:
            del self._used[peer_id]
            asyncio.get_running_loop().call_later(IDLE_SECONDS, self._close_unused, peer_id)

    def _close_unused(self, peer_id: PeerId) -> None:
        if peer_id not in self._used and (channel := self._channels.pop(peer_id, None)) is not None:
            channel.abort("no session's rows go that way")

    async def _dial(self, peer_id: PeerId, addresses: Sequence[Address]) -> Channel:
        if self._dials >= MAX_DIALS:
            raise Overloaded(f"{self._dials} other workers are being dialled here")
        self._dials += 1
        try:
            channel = await dial(self._network, addresses, peer_id, self._config, trace=self._trace)
        finally:
            self._dials -= 1
        if self._closed:
            channel.abort("this worker has stopped")
            raise PeerLost("this worker has stopped")
        return channel
