"""Takes channels from other peers: caps in all and per address, and a bound on the memory that they make us hold.

Knows nothing of what the requests mean; a handler does.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections import Counter
from collections.abc import Callable
from types import TracebackType

from swarm.config import ChannelConfig
from swarm.trace import Trace
from swarm.transport.base import Listening, Network, Stream
from swarm.transport.channel import AGENT, Channel, Terms
from swarm.transport.serving import Handler
from swarm.wire.connection import Role
from swarm.wire.messages import Load

EBB_BYTES = 32 << 20  # held and then not any more: the system gets them back
EBB_SECONDS = 2.0  # later


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
        agent: str = AGENT,
    ) -> None:
        self._network = network
        self._host = host
        self._wanted_port = port
        self._config = config
        self._trace = trace
        self._on_close = on_close
        self._terms = Terms(config, trace, handler, load, self._held, self._closed, agent)
        self._listening: Listening | None = None
        self._per_host: Counter[str] = Counter()
        self._held_bytes = 0  # for all channels
        self._high_bytes = 0  # the most of them since memory was last given back
        self._ebb: asyncio.TimerHandle | None = None
        self.channels: set[Channel] = set()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._wanted_port if self._listening is None else self._listening.port

    async def __aenter__(self) -> ChannelServer:
        self._listening = await self._network.listen(self._host, self._wanted_port, self._take)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop_listening()
        if self.channels:
            await asyncio.gather(*(channel.aclose() for channel in tuple(self.channels)))
        if self._ebb is not None:
            self._ebb.cancel()

    async def stop_listening(self) -> None:
        """Take no new channels; those there are go on."""
        listening = self._listening
        if listening is not None:
            self._listening, self._wanted_port = None, listening.port
            await listening.aclose()

    def _take(self, stream: Stream) -> None:
        """A peer has proved its key: room for one more?"""
        refused = None
        if len(self.channels) >= self._config.max_channels:
            refused = f"{self._config.max_channels} channels are open"
        elif self._per_host[stream.host] >= self._config.max_channels_per_address:
            refused = f"{self._config.max_channels_per_address} channels of {stream.host} are open"
        if refused is not None:
            self._trace.failed("channel.accept", peer=stream.peer_id.short, remote=stream.remote, reason=refused)
            stream.abort()
            return
        channel = Channel(stream, Role.LISTENER, self._terms)
        self.channels.add(channel)
        self._per_host[channel.host] += 1
        self._trace.complete("channel.accept", peer=channel.peer_id.short, remote=channel.remote)
        channel.start()

    def _closed(self, channel: Channel) -> None:
        self.channels.discard(channel)
        self._held_bytes -= channel.held_bytes  # what it still serves is no other channel's burden
        self._look_at_ebb()
        self._per_host[channel.host] -= 1
        if not self._per_host[channel.host]:
            del self._per_host[channel.host]
        if self._on_close is not None:
            self._on_close(channel)

    def _held(self, channel: Channel, change: int) -> None:
        """What peers make us hold is bounded; when it is too much, whoever makes us hold most is cut off."""
        if channel.closed:
            return
        self._held_bytes += change
        self._look_at_ebb()
        if self._held_bytes > self._config.max_held_bytes and change > 0:
            most = max(self.channels, key=lambda one: one.held_bytes, default=channel)
            self._trace.failed("channel.memory", peer=most.peer_id.short, held=most.held_bytes)
            most.abort(f"it made us hold {most.held_bytes} of the {self._config.max_held_bytes} bytes allowed here")

    def _look_at_ebb(self) -> None:
        """After much was held, the C library keeps what it was held in unless it is told."""
        self._high_bytes = max(self._high_bytes, self._held_bytes)
        if self._ebb is None and self._high_bytes - self._held_bytes >= EBB_BYTES:
            self._ebb = asyncio.get_running_loop().call_later(EBB_SECONDS, self._give_back)

    def _give_back(self) -> None:
        self._ebb, self._high_bytes = None, self._held_bytes
        give_back()

    def __repr__(self) -> str:
        return f"ChannelServer(port={self.port}, channels={len(self.channels)}, held={self._held_bytes})"


def give_back() -> None:
    """Freed memory to the system; glibc keeps pages that lie below others still in use. Takes milliseconds."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)
