"""Who leaves says so, and no copy of what it said before counts again; who comes back replaces its old record at once."""

import asyncio

import pytest
from support.announcements import MODEL, announcement
from support.clock import run_virtual
from support.dht import Dht

from swarm.discovery.keys import PUBLIC
from swarm.errors import NoSwarm
from swarm.records import RECORD_LIFETIME, ModelRef, PeerState
from swarm.span import LayerSpan

OTHER = ModelRef("other", b"\x02" * 32, 32)
SERVING, GONE = PeerState.SERVING, PeerState.GONE


def signed(directory, dht, **options):
    return announcement(directory.identity, now=dht.now(), **options)


async def states(client, model=MODEL):
    return [one.record.state for one in await client.lookup(model)], [
        one.record.state for one in await client.lookup_all()
    ]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_everybody_knows_within_a_second_and_a_late_copy_changes_nothing(seed):
    async def main():
        async with Dht(seed, loss=0.05) as dht:
            await dht.grow(25)
            worker, copier = dht.nodes[7], dht.nodes[9]
            old = signed(worker, dht)
            await worker.announce(old)
            remembers, comes_later = await dht.client(), await dht.client()
            assert await states(remembers) == ([SERVING], [SERVING])
            began = dht.now()
            assert await worker.announce(signed(worker, dht, sequence=2, state=GONE)) >= dht.config.k - 1
            assert await states(remembers) == ([GONE], [GONE])
            assert dht.now() - began < 1.5  # with the two lookups
            while dht.now() < old.record.expires_at:
                for key in PUBLIC.keys_of(old.record):
                    await copier._server.publish(key, old.raw)
                for client in (remembers, comes_later):
                    assert await states(client) == ([GONE], [GONE])
                await asyncio.sleep(10)
            await asyncio.sleep(RECORD_LIFETIME)
            assert await states(remembers) == ([], [])

    run_virtual(main())


def test_replicas_that_were_cut_off_do_not_bring_it_back():
    async def main():
        async with Dht() as dht:
            await dht.grow(12)
            worker = dht.nodes[5]
            old = signed(worker, dht)
            await worker.announce(old)
            key = PUBLIC.keys_of(old.record)[0]
            holders = [node for node in dht.nodes if node is not worker and node._server.storage.held(key, dht.now())]
            for node in holders[:3]:
                dht.switch.cut(worker.host, node.host)
            await worker.announce(signed(worker, dht, sequence=2, state=GONE))
            for node in holders[:3]:
                dht.switch.mend(worker.host, node.host)
                assert node._server.storage.held(key, dht.now())[0].signed == old
            assert await states(await dht.client()) == ([GONE], [GONE])

    run_virtual(main())


def test_who_was_killed_is_found_until_it_expires_and_no_longer():
    async def main():
        async with Dht() as dht:
            await dht.grow(12)
            async with dht.make(number=77) as worker:
                await worker.join()
                old = signed(worker, dht)
                await worker.announce(old)
            client = await dht.client()
            await asyncio.sleep(old.record.expires_at - dht.now() - 3)
            assert await states(client) == ([SERVING], [SERVING])
            await asyncio.sleep(3)
            assert await states(client) == ([], [])

    run_virtual(main())


@pytest.mark.parametrize("changes", [{"span": LayerSpan(16, 32)}, {"model": OTHER}])
def test_a_restart_replaces_what_was_said_before_wherever_it_lies(changes):
    async def main():
        async with Dht() as dht:
            await dht.grow(20)
            async with dht.make(number=77) as worker:
                await worker.join()
                await worker.announce(signed(worker, dht, span=LayerSpan(0, 16)))
            client = await dht.client()
            assert await states(client) == ([SERVING], [SERVING])
            async with dht.make(number=77) as again:
                await again.join()
                (former,) = await again.lookup_all()
                again.succeed(former)
                new = signed(again, dht, sequence=2, **changes)
                await again.announce(new)
                fresh = await dht.client()
                for asker in (client, fresh):
                    assert await asker.lookup_all() == [new]
                    assert await asker.lookup(MODEL) == ([new] if new.record.model == MODEL else [])
                    assert await asker.lookup(new.record.model) == [new]

    run_virtual(main())


def test_a_node_that_left_the_swarm_says_no_more():
    async def main():
        async with Dht() as dht:
            await dht.grow(3)
            async with dht.make(number=77) as worker:
                await worker.join()
                await worker.announce(signed(worker, dht))
            with pytest.raises(NoSwarm):
                await worker.announce(signed(worker, dht, sequence=2, state=GONE))

    run_virtual(main())
