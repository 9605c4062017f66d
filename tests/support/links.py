"""Two peers joined by a channel over memory or TLS, for tests that hold over either."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from swarm.config import ChannelConfig
from swarm.identity import Identity
from swarm.records import Address
from swarm.trace import Trace
from swarm.transport.channels.channel import Channel
from swarm.transport.channels.dial import dial
from swarm.transport.channels.server import ChannelServer
from swarm.transport.in_process import MemoryNetwork
from swarm.transport.tls.network import TlsNetwork
from swarm.wire.messages import Forward, Load, Result
from swarm.wire.rows import Rows
from swarm.wire.tensors import Tensor

CLIENT, WORKER = Identity.from_seed(b"c" * 32), Identity.from_seed(b"w" * 32)
SESSION = bytes(range(16))
LOAD = Load(1, 2, 3, 0.25)


def tensor(size: int, fill: int = 0) -> Tensor:
    """A bf16 tensor of `size` bytes."""
    return Tensor("bf16", (1, size // 2), memoryview(bytes([fill]) * size))


def forward(size: int = 64, step: int = 0, fill: int = 0) -> Forward:
    return Forward(SESSION, step, step, Rows.DECODE, tensor(size, fill))


async def echo(message, exchange):
    """A handler: the rows come back."""
    return Result(message.session_id, message.step, message.position, message.rows, message.tensor, LOAD)


class Link:
    """What `memory_link` and `tls_link` give."""

    def __init__(self, channel: Channel, server: ChannelServer, hub: MemoryNetwork | None, events: list) -> None:
        self.channel = channel
        self.server = server
        self.hub = hub
        self.events = events  # of both sides' traces

    @property
    def far(self) -> Channel:
        """The server's end, if there is one channel."""
        (channel,) = self.server.channels
        return channel


@contextlib.asynccontextmanager
async def memory_link(
    handler=echo, config: ChannelConfig | None = None, *, latency: float = 0.0, rate: float | None = None, **options
) -> AsyncIterator[Link]:
    hub = MemoryNetwork(latency=latency, rate=rate)
    config = config or ChannelConfig()
    events: list = []
    trace = Trace(events.append)
    node = hub.node(WORKER.peer_id)
    async with ChannelServer(node, "0.0.0.0", 0, handler, config, trace, **options) as server:
        address = node.address(server.port)
        channel = await dial(hub.node(CLIENT.peer_id), [address], WORKER.peer_id, config, trace)
        try:
            yield Link(channel, server, hub, events)
        finally:
            await channel.aclose()


def now() -> float:
    return asyncio.get_running_loop().time()


@contextlib.asynccontextmanager
async def tls_link(handler=echo, config: ChannelConfig | None = None, **options) -> AsyncIterator[Link]:
    config = config or ChannelConfig()
    events: list = []
    trace = Trace(events.append)
    async with ChannelServer(TlsNetwork(WORKER, trace), "127.0.0.1", 0, handler, config, trace, **options) as server:
        channel = await dial(TlsNetwork(CLIENT, trace), [local(server.port)], WORKER.peer_id, config, trace)
        try:
            yield Link(channel, server, None, events)
        finally:
            await channel.aclose()


def local(port: int) -> Address:
    return Address.of("127.0.0.1", port)
