"""Takes channels from other peers: how many, how much memory they make us hold, and how long something may be under way.

What is too much is judged by address block first, since keys are free. Knows nothing of what the requests mean; a handler does.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from weakref import WeakSet

from swarm.config import ChannelConfig
from swarm.records import address_block
from swarm.shares import Holder, Shares
from swarm.trace import Trace
from swarm.transport.base import Listener, Network, Stream
from swarm.transport.channels.channel import AGENT, Channel, Terms
from swarm.transport.channels.responses import Handler
from swarm.transport.channels.stalled_transfers import TICK_SECONDS, StalledTransfers
from swarm.transport.memory_trim import MemoryTrim
from swarm.wire.connection import Role
from swarm.wire.messages import Goodbye, Load, Push


@dataclass(slots=True)
class _Seat:
    """One channel's, with what is counted for it."""

    holder: Holder
    transfers: StalledTransfers
    unfinished: int = 0  # bytes of messages that have not arrived whole


class ChannelServer:
    """`async with` listens, and in the end closes every channel. Raises PortInUse."""

    def __init__(
        self,
        network: Network,
        host: str,
        port: int,
        handler: Handler,
        config: ChannelConfig,
        trace: Trace,
        *,
        load: Callable[[], Load] | None = None,
        on_close: Callable[[Channel], None] | None = None,
        on_push: Callable[[Channel, Push], None] | None = None,
        agent: str = AGENT,
    ) -> None:
        self._network = network
        self._host = host
        self._wanted_port = port
        self._config = config
        self._trace = trace
        self._on_close = on_close
        self._terms = Terms(config, trace, handler, load, self._held, self._closed, agent, on_push=on_push)
        self._listener: Listener | None = None
        self._shares = Shares(config.max_channels, 1.0, config.block_share)
        self._seats: dict[Channel, _Seat] = {}
        self._held_bytes = 0  # for all channels
        self._unfinished_bytes = 0  # of those, in messages that have not arrived whole
        self._memory_trim = MemoryTrim()
        self._tick: asyncio.TimerHandle | None = None
        self.channels: dict[Channel, None] = {}  # in the order in which they came
        self._ended: WeakSet[Channel] = WeakSet()  # perhaps while what came by them is being served

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._wanted_port if self._listener is None else self._listener.port

    async def __aenter__(self) -> ChannelServer:
        self._listener = await self._network.listen(self._host, self._wanted_port, self._take)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop_listening()
        await asyncio.gather(*(channel.aclose() for channel in tuple(self.channels)))
        await asyncio.gather(*(channel.stop_serving() for channel in tuple(self._ended)))
        self._memory_trim.close()
        if self._tick is not None:
            self._tick.cancel()

    def part(self, sequence: int) -> None:
        """Tell all who have a channel that this peer will leave, and up to which of its records counts no more."""
        for channel in tuple(self.channels):
            channel.part(Goodbye(sequence))

    async def stop_listening(self) -> None:
        """Take no new channels; those there are go on."""
        listener = self._listener
        if listener is not None:
            self._listener, self._wanted_port = None, listener.port
            await listener.aclose()

    def _take(self, stream: Stream) -> None:
        """A peer has proved its key: room for one more?"""
        holder = Holder(stream.peer_id, address_block(stream.host))
        refused = self._shares.refusal(holder, 1)
        if self._shares.of_peer(holder) >= self._config.max_channels_per_peer:
            refused = f"{self._config.max_channels_per_peer} channels of it are open"
        if refused is not None:
            self._trace.failed("channel.accept", peer=stream.peer_id.short, remote=stream.remote, reason=refused)
            stream.abort()
            return
        channel = Channel(stream, Role.LISTENER, self._terms)
        self.channels[channel] = None
        self._seats[channel] = _Seat(holder, StalledTransfers(self._config.frame_seconds, self._config.min_frame_rate))
        self._shares.take(holder, 1)
        self._trace.complete("channel.accept", peer=channel.peer_id.short, remote=channel.remote)
        channel.start()
        if self._tick is None:
            self._tick = asyncio.get_running_loop().call_later(TICK_SECONDS, self._look_at_transfers)

    def _closed(self, channel: Channel) -> None:
        self.channels.pop(channel, None)
        self._ended.add(channel)
        seat = self._seats.pop(channel)
        self._held_bytes -= channel.held_bytes  # what it still serves is no other channel's burden
        self._unfinished_bytes -= seat.unfinished
        self._memory_trim.holds(self._held_bytes)
        self._shares.give(seat.holder, 1)
        if self._on_close is not None:
            self._on_close(channel)

    def _held(self, channel: Channel, change: int) -> None:
        """What peers make us hold is bounded; when it is too much, whoever makes us hold most is cut off."""
        if channel.closed:
            return
        self._held_bytes += change
        if (seat := self._seats.get(channel)) is not None:
            self._unfinished_bytes += channel.unfinished_bytes - seat.unfinished
            seat.unfinished = channel.unfinished_bytes
        self._memory_trim.holds(self._held_bytes)
        if change > 0 and self._held_bytes > self._config.max_held_bytes:
            self._cut_off(channel, lambda one: one.held_bytes, self._config.max_held_bytes)
        elif change > 0 and self._unfinished_bytes > self._config.max_unfinished_bytes:
            self._cut_off(channel, lambda one: one.unfinished_bytes, self._config.max_unfinished_bytes)

    def _cut_off(self, last: Channel, measure: Callable[[Channel], int], allowed: int) -> None:
        """Of the block that makes us hold most, the channel that does."""
        blocks: Counter[bytes] = Counter()
        for channel, seat in self._seats.items():
            blocks[seat.holder.block] += measure(channel)
        ((block, _),) = blocks.most_common(1)
        inside = (channel for channel, seat in self._seats.items() if seat.holder.block == block)
        most = max(inside, key=measure, default=last)
        self._trace.failed("channel.memory", peer=most.peer_id.short, held=measure(most))
        most.abort(f"it made us hold {measure(most)} of the {allowed} bytes allowed here")

    def _look_at_transfers(self) -> None:
        """Who drips is cut off."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for channel, seat in tuple(self._seats.items()):
            reason = seat.transfers.tick(now, channel.progress)
            if reason is not None and not channel.closed:
                self._trace.failed("channel.transit", peer=channel.peer_id.short, reason=reason)
                channel.abort(reason)
        self._tick = loop.call_later(TICK_SECONDS, self._look_at_transfers) if self._seats else None

    def __repr__(self) -> str:
        return f"ChannelServer(port={self.port}, channels={len(self.channels)}, held={self._held_bytes})"
