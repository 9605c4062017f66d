"""A channel that was closed leaves no socket behind, also when the event loop ends right after."""

import asyncio
import gc

import psutil

from swarm.config import ChannelConfig
from swarm.identity import Identity
from swarm.records import Address
from swarm.trace import Trace
from swarm.transport.channels.dial import dial
from swarm.transport.channels.server import ChannelServer
from swarm.transport.tls.network import TlsNetwork


def test_closing_waits_for_the_sockets_end():
    async def refuse(message, exchange):
        raise AssertionError(message)

    async def main():
        ours, theirs = Identity.generate(), Identity.generate()
        config = ChannelConfig()
        async with ChannelServer(TlsNetwork(theirs), "127.0.0.1", 0, refuse, config, Trace()) as server:
            address = Address.of("127.0.0.1", server.port)
            channel = await dial(TlsNetwork(ours), [address], theirs.peer_id, config)
            await channel.aclose()
            there = psutil.Process().net_connections("tcp")
            assert [each for each in there if each.raddr and each.raddr.port == server.port] == []

    asyncio.run(main())
    gc.collect()
