"""A node behind a router that passes a port on tells others that port, everywhere it says one."""

import asyncio

from swarm import Node
from swarm.config import NodeConfig
from swarm.identity import Identity
from swarm.records import Address


def test_others_are_told_the_public_port():
    async def main():
        config = NodeConfig("127.0.0.1", 0, public_host="127.0.0.1", public_port=7712)
        async with Node(config, Identity.generate()) as node:
            assert node.addresses == (Address("127.0.0.1", 7712, 7712, 7713),)
            assert node.ports[0] != 7712

    asyncio.run(main())
