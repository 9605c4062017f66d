"""A directory is left while others still ask it."""

import asyncio

import pytest
from support.announcements import MODEL, announcement
from support.clock import run_virtual
from support.dht import Dht

from swarm.errors import NoSwarm


def begin(doing, node, now):
    if doing == "announce":
        return node.announce(announcement(node.identity, now=now))
    return node.lookup(MODEL) if doing == "lookup" else node.join()


@pytest.mark.parametrize("doing", ["join", "lookup", "announce"])
def test_what_is_under_way_ends_with_an_error_that_says_so(doing):
    async def main():
        async with Dht() as dht:
            await dht.grow(6)
            for tenth in range(1, 30):
                node = dht.make(number=500 + tenth)
                async with node:
                    if doing != "join":
                        await node.join()
                    running = asyncio.create_task(begin(doing, node, dht.now()))
                    await asyncio.sleep(0.01 * tenth)
                    ended = running.done()
                if not ended:
                    with pytest.raises(NoSwarm, match="left"):
                        await asyncio.wait_for(running, 5)
            assert tenth == 29

    run_virtual(main())


def test_who_asks_afterwards_is_told_too():
    async def main():
        async with Dht() as dht:
            await dht.grow(2)
            async with dht.make() as node:
                await node.join()
            for asked in (node.join(), node.lookup(MODEL), node.lookup_all()):
                with pytest.raises(NoSwarm, match="left"):
                    await asked
            assert node.tasks[0].done()

    run_virtual(main())
