"""Clocks that are an hour off, or jump while running: whatever they show, live records are found and dead ones are not."""

import asyncio

import pytest
from support.announcements import MODEL, record
from support.clock import run_virtual
from support.dht import Dht

from swarm.records import ANNOUNCE_INTERVAL, RECORD_LIFETIME
from swarm.worker.announcer import Announcer, highest_sequence

HOUR = 3600.0
TOLERANCE = 2.5  # seconds by which clocks that agree may differ, and a round trip


class Skewed(Dht):
    """A swarm of workers whose clocks are set at will: `skew[n]` seconds ahead for the n-th started."""

    def __init__(self, seed, skews):
        super().__init__(seed, loss=0.01)
        self.skews = list(skews)
        self.announcers = []
        self.stored = []  # replicas of each announcement since the start
        self.found, self.missed, self.dead_found = 0, 0, 0
        self.died = {}  # peer id -> true time of its death

    def clock(self, index):
        return lambda: 1e9 + self.now() + self.skews[index]

    async def worker(self, index):
        node = await self.start(now=self.clock(index))
        above = highest_sequence(await node.lookup(MODEL), node.identity.peer_id)
        await self.announce(node, above)
        return node

    async def announce(self, node, above=0):
        def describe(state):
            return record(node.identity, state=state)

        announcer = Announcer(node, node.identity, describe, node.time, above=above)
        self.announcers.append(announcer)
        await self._stack.enter_async_context(announcer)
        await announcer.first()

    def kill(self, node):
        self.switch.kill(node.host)
        self.died[node.identity.peer_id] = self.now()

    async def ask(self, node):
        """One lookup, counted: every living record must be found, and none that expired."""
        living = {one.identity.peer_id for one in self.nodes} - set(self.died)
        found = {signed.record.peer_id for signed in await node.lookup(MODEL)}
        self.found += len(found & living)
        self.missed += len(living - found)
        self.dead_found += sum(
            self.now() - self.died.get(peer, self.now()) > RECORD_LIFETIME + TOLERANCE for peer in found
        )

    async def ask_for(self, seconds, nodes):
        ends = self.now() + seconds
        while self.now() < ends:
            await asyncio.gather(*map(self.ask, nodes))
            await asyncio.sleep(10)

    @property
    def share(self):
        return self.found / (self.found + self.missed)


def a_third_off(count, first):
    """Skews of so many, a third of them an hour off, one way or the other; the first one's as told."""
    return [first] + [(HOUR, -HOUR)[number // 3 % 2] if number % 3 == 1 else 0.0 for number in range(1, count)]


@pytest.mark.parametrize("bootstrap", [0.0, HOUR])
def test_a_third_of_the_clocks_off_and_jumping(bootstrap):
    async def main():
        async with Skewed(3, [*a_third_off(15, bootstrap), HOUR, -HOUR, 0.0]) as dht:
            for index in range(15):
                await dht.worker(index)
            clients = [await dht.client(now=dht.clock(15 + number)) for number in range(3)]
            await dht.ask_for(60, clients)
            for node in dht.nodes[5:9]:
                dht.kill(node)
            await dht.ask_for(90, clients)
            for number in range(18):  # a third jumps, another third from an hour off to right
                dht.skews[number] += (0.0, HOUR, -HOUR)[number % 3]
            await dht.ask_for(120, [*clients, *dht.nodes[:3]])
            late = [await dht.client(now=lambda off=off: dht.now() + 1e9 + off) for off in (0.0, HOUR, -HOUR)]
            await dht.ask_for(20, late)
            assert dht.share >= 0.99
            assert dht.dead_found == 0
            times = [node.time() for node in [*dht.nodes[:5], *dht.nodes[9:], *clients, *late]]
            assert max(times) - min(times) < TOLERANCE

    run_virtual(main())


@pytest.mark.parametrize("skew", [HOUR, -HOUR])
def test_a_worker_started_again_with_another_clock_is_seen(skew):
    async def main():
        async with Skewed(4, [0.0, 0.0, skew, 0.0]) as dht:
            await dht.worker(0)
            old = await dht.worker(1)
            client = await dht.client(now=dht.clock(3))
            await asyncio.sleep(45)
            await dht.announcers[1].__aexit__(None, None, None)
            await old.__aexit__(None, None, None)
            number = dht._number - 1
            new = await dht.start(number=number, host=old.host, now=dht.clock(2))
            assert new.identity.peer_id == old.identity.peer_id
            await dht.announce(new, highest_sequence(await new.lookup(MODEL), new.identity.peer_id))
            for _ in range(6):
                found = {one.record.peer_id: one.record for one in await client.lookup(MODEL)}
                assert (
                    found[new.identity.peer_id].expires_at > dht.now() + 1e9 + RECORD_LIFETIME - ANNOUNCE_INTERVAL - 2
                )
                await asyncio.sleep(15)

    run_virtual(main())


def test_when_the_clock_of_everybody_jumps_at_once_nothing_happens():
    async def main():
        async with Skewed(5, [0.0] * 9) as dht:
            for index in range(8):
                await dht.worker(index)
            client = await dht.client(now=dht.clock(8))
            for jump in (HOUR, -HOUR, 0.0):
                dht.skews[:] = [jump] * 9
                await dht.ask_for(45, [client, *dht.nodes[:3]])
            assert (dht.missed, dht.dead_found) == (0, 0)

    run_virtual(main())


def test_two_bootstraps_that_start_together_an_hour_apart_agree_soon():
    async def main():
        async with Skewed(6, []) as dht:
            both = [("10.0.0.1", 7700), ("10.0.0.2", 7700)]
            offs = (0.0, HOUR)
            nodes = [
                dht.make(
                    number=number, host=host, first=True, bootstrap=both, now=lambda off=off: 1e9 + dht.now() + off
                )
                for number, ((host, _), off) in enumerate(zip(both, offs, strict=True), 1)
            ]
            async with nodes[0], nodes[1]:
                await asyncio.gather(*(node.join() for node in nodes))
                await asyncio.sleep(30)
                assert abs(nodes[0].time() - nodes[1].time()) < TOLERANCE

    run_virtual(main())


def test_who_lies_about_the_time_is_outvoted():
    async def main():
        async with Skewed(7, [0.0] * 18) as dht:
            for index in range(12):
                await dht.worker(index)
            for node in dht.nodes[2::3]:
                node._server.protocol.now = lambda: 1e9 + dht.now() - HOUR
            clients = [await dht.client(now=dht.clock(12 + number)) for number in range(5)]
            await asyncio.sleep(60)
            honest = [node for index, node in enumerate(dht.nodes) if index % 3 != 2]
            for node in [*honest, *clients]:
                assert abs(node.time() - dht.now() - 1e9) < TOLERANCE

    run_virtual(main())
