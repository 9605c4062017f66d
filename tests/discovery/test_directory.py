import asyncio
import dataclasses
import random

import pytest
from support.announcements import MODEL, announcement, identity, record
from support.clock import run_virtual
from support.dht import PORT, Dht
from support.udp_switch import UdpSwitch

from swarm.config import DirectoryConfig
from swarm.discovery import Directory
from swarm.discovery.keys import PUBLIC
from swarm.discovery.record_lookup import BULK_RECORDS
from swarm.errors import NoSwarm, PeerLost
from swarm.records import ModelRef, PeerState
from swarm.span import LayerSpan
from swarm.trace import Trace


def signed(directory, dht, **options):
    return announcement(directory.identity, now=dht.now(), **options)


def test_two_nodes_are_a_swarm():
    async def main():
        async with Dht() as dht:
            _, worker = await dht.grow(2)
            mine = signed(worker, dht)
            assert await worker.announce(mine) == 2
            client = await dht.client()
            assert await client.lookup(MODEL) == [mine]
            assert await client.lookup_all() == [mine]
            assert await worker.lookup(MODEL) == await dht.nodes[0].lookup(MODEL) == [mine]

    run_virtual(main())


def test_the_first_bootstrap_needs_nobody_and_may_serve_itself():
    async def main():
        async with Dht() as dht:
            alone = await dht.start()
            mine = signed(alone, dht)
            assert await alone.lookup(MODEL) == []
            assert await alone.announce(mine) == 1
            assert await (await dht.client()).lookup(MODEL) == [mine]

    run_virtual(main())


def test_a_silent_bootstrap_is_named():
    async def main():
        switch = UdpSwitch(1)
        settings = {"open_socket": switch.opener("10.0.0.9"), "now": lambda: 0.0, "random": random.Random(1)}
        bootstrap = [("10.0.0.1", 7700), ("10.0.0.2", 7701)]
        async with Directory(identity(1), bootstrap=bootstrap, **settings) as directory:
            with pytest.raises(NoSwarm, match=r"10\.0\.0\.1 port 7700, 10\.0\.0\.2 port 7701"):
                await directory.join()
            assert await directory.lookup(MODEL) == []
            assert await directory.announce(announcement(directory.identity)) == 1

    run_virtual(main())


def test_a_bootstrap_that_names_itself_among_others_may_be_the_first():
    async def main():
        async with Dht() as dht:
            everybody = [("10.0.0.1", PORT), ("10.0.0.2", PORT)]
            first = await dht.start(host="10.0.0.1", bootstrap=everybody)
            second = await dht.start(host="10.0.0.2", bootstrap=everybody)
            await asyncio.sleep(5)
            assert first.contacts == second.contacts == 1

    run_virtual(main())


@pytest.mark.parametrize("round_trip", [1.5, 3.0])
def test_over_a_long_link_a_stranger_joins_and_finds(round_trip: float):
    async def main():
        async with Dht(delay=round_trip / 2) as dht:
            await dht.grow(2)
            worker = await dht.start()
            mine = signed(worker, dht)
            assert await worker.announce(mine)
            assert await (await dht.client()).lookup(MODEL) == [mine]

    run_virtual(main())


def test_draining_replaces_serving():
    async def main():
        async with Dht() as dht:
            _, worker = await dht.grow(2)
            await worker.announce(signed(worker, dht))
            assert await worker.announce(signed(worker, dht, sequence=2, state=PeerState.DRAINING)) == 2
            client = await dht.client()
            assert [one.record.state for one in await client.lookup(MODEL)] == [PeerState.DRAINING]
            assert await worker.announce(signed(worker, dht)) == 0  # older

    run_virtual(main())


def test_a_moved_span_is_no_longer_found_where_it_was():
    async def main():
        async with Dht() as dht:
            await dht.grow(30)
            worker = dht.nodes[7]
            await worker.announce(signed(worker, dht, span=LayerSpan(0, 16)))
            moved = signed(worker, dht, span=LayerSpan(16, 32), sequence=2)
            assert await worker.announce(moved) == 8
            low, high = PUBLIC.keys_of_model(MODEL)
            assert not [node for node in dht.nodes if node.page(low, 0)[0]]
            assert len([node for node in dht.nodes if node.page(high, 0)[0]]) >= 8
            assert await (await dht.client()).lookup(MODEL) == [moved]

    run_virtual(main())


def test_records_expire_at_their_own_time_everywhere():
    async def main():
        async with Dht() as dht:
            await dht.grow(6)
            for number, worker in enumerate(dht.nodes):
                await worker.announce(signed(worker, dht, life=30.0 if number % 2 else 90.0))
            client = await dht.client()
            assert len(await client.lookup(MODEL)) == 6
            await asyncio.sleep(45)
            assert len(await client.lookup(MODEL)) == len(await client.lookup_all()) == 3
            await asyncio.sleep(120)
            assert await client.lookup(MODEL) == []
            assert all(node._server.storage.size == 0 for node in dht.nodes)

    run_virtual(main())


def test_models_are_told_apart_by_digest():
    async def main():
        async with Dht() as dht:
            await dht.grow(4)
            twin = ModelRef(MODEL.name, b"\x02" * 32, MODEL.layer_count)
            for worker, model in zip(dht.nodes, (MODEL, twin, MODEL, twin), strict=True):
                await worker.announce(signed(worker, dht, model=model))
            client = await dht.client()
            assert {one.record.model for one in await client.lookup(twin)} == {twin}
            assert len(await client.lookup(twin)) == 2
            assert len(await client.lookup_all()) == 4

    run_virtual(main())


def test_a_hidden_publisher_is_found_but_stores_nothing_for_others():
    async def main():
        async with Dht() as dht:
            await dht.grow(5)
            hidden = await dht.client()
            mine = signed(hidden, dht)
            assert await hidden.announce(mine) == 5
            await dht.nodes[1].announce(signed(dht.nodes[1], dht))
            assert mine in await (await dht.client()).lookup(MODEL)
            assert hidden.page(PUBLIC.index, 0)[0] == [mine.raw]

    run_virtual(main())


def test_what_others_see_of_our_address():
    async def main():
        async with Dht() as dht:
            await dht.start()
            assert dht.nodes[0].observed_host() is None
            await dht.grow(4)
            client = await dht.client(host="10.7.7.7")
            await client.lookup(MODEL)
            assert client.observed_host() == "10.7.7.7"

    run_virtual(main())


@pytest.mark.parametrize("same_key", [True, False])
def test_a_restarted_bootstrap_gets_its_swarm_back(same_key):
    async def main():
        async with Dht() as dht:
            old = await dht.start()
            workers = await dht.grow(3)
            await old.__aexit__(None, None, None)
            await asyncio.sleep(20)
            number = dht._number - 3 if same_key else 77
            async with dht.make(number=number, host=old.host, first=True) as new:
                await new.join()
                assert new.contacts == 0
                await asyncio.sleep(3 * dht.config.refresh_seconds)
                assert new.contacts == 3
                await workers[0].announce(signed(workers[0], dht))
                assert len(await (await dht.client()).lookup(MODEL)) == 1

    run_virtual(main())


@pytest.mark.parametrize("same_key", [True, False])
def test_a_cold_start_by_way_of_a_bootstrap_that_was_restarted_finds_the_swarm_within_ten_seconds(same_key):
    async def main():
        async with Dht() as dht:
            old = await dht.start()
            workers = await dht.grow(4)
            await asyncio.gather(*(worker.announce(signed(worker, dht)) for worker in workers))
            number = dht._number - 4 if same_key else 77
            await old.__aexit__(None, None, None)
            async with dht.make(number=number, host=old.host, first=True):
                await asyncio.sleep(8)
                began = dht.now()
                assert len(await (await dht.client()).lookup(MODEL)) == 4
                assert dht.now() - began < 2

    run_virtual(main())


def test_a_lonely_node_finds_back_soon_after_its_only_bootstrap_returns():
    async def main():
        async with Dht() as dht:
            old, worker = await dht.grow(2)
            await old.__aexit__(None, None, None)
            for _ in range(3):
                await worker.announce(signed(worker, dht, sequence=int(dht.now())))
                await asyncio.sleep(5)
            assert worker.contacts == 0
            async with dht.make(number=78, host=old.host, first=True) as new:
                await asyncio.sleep(2 * dht.config.rejoin_seconds)
                assert worker.contacts == new.contacts == 1

    run_virtual(main())


def test_a_swarm_without_its_bootstrap_heals_after_an_outage():
    async def main():
        async with Dht() as dht:
            await dht.grow(6)
            dht.switch.kill(dht.bootstrap)
            workers = dht.nodes[1:]
            for worker in workers:
                dht.switch.kill(worker.host)
            for _ in range(20):
                await asyncio.gather(*(one.announce(signed(one, dht, sequence=int(dht.now()))) for one in workers))
                await asyncio.sleep(20)
            assert all(worker.contacts == 0 for worker in workers)
            for worker in workers:
                dht.switch.heal(worker.host)
            await asyncio.sleep(60)
            await asyncio.gather(*(one.announce(signed(one, dht, sequence=int(dht.now()))) for one in workers))
            assert [len(await worker.lookup(MODEL)) for worker in workers] == [5] * 5

    run_virtual(main())


def test_a_fresh_client_finds_a_swarm_though_its_contacts_died():
    async def main():
        async with Dht() as dht:
            await dht.grow(20)
            client = await dht.client()
            for node in dht.nodes[1:15]:
                dht.switch.kill(node.host)
            await dht.nodes[18].announce(signed(dht.nodes[18], dht))
            assert len(await client.lookup(MODEL)) == 1

    run_virtual(main())


def test_in_a_small_swarm_a_dead_worker_costs_only_the_first_lookup_time():
    async def main():
        async with Dht() as dht:
            _, worker, doomed = await dht.grow(3)
            await worker.announce(signed(worker, dht))
            client = await dht.client()
            dht.switch.kill(doomed.host)
            for most in (1.2, 0.15, 0.15):
                began = dht.now()
                assert len(await client.lookup(MODEL)) == 1
                assert dht.now() - began < most

    run_virtual(main())


@pytest.mark.parametrize("works", [True, False])
def test_many_records_are_fetched_in_bulk_where_that_works(works):
    async def main():
        async with Dht() as dht:
            fetched = []

            async def fetch(address, peer, key, offset):
                fetched.append((address.data, peer, offset))
                await asyncio.sleep(0.05)
                if not works:
                    raise PeerLost("no way")
                (node,) = [node for node in dht.nodes if node.identity.peer_id == peer]
                assert address.host == node.host
                return node.page(key, offset)

            for _ in range(3):
                await dht.start(data_port=7777)
            for number in range(BULK_RECORDS + 20):
                await dht.nodes[number % 3].announce(announcement(identity(500 + number), now=dht.now()))
            client = await dht.client(fetch_page=fetch)
            carried = dht.switch.carried[client.host]
            began = dht.now()
            assert len(await client.lookup(MODEL)) == BULK_RECORDS + 20
            assert dht.now() - began < (0.5 if works else 2.0)
            assert fetched
            assert {port for port, _, _ in fetched} == {7777}
            assert (dht.switch.carried[client.host] - carried < 20) is works

    run_virtual(main())


def test_events_are_traced():
    async def main():
        async with Dht() as dht:
            await dht.start()
            events = []
            worker = await dht.start(trace=Trace(lambda event: events.append((event.name, event.phase))))
            await worker.announce(signed(worker, dht))
            await worker.lookup(MODEL)
            assert ("directory.join", "complete") in events
            assert ("directory.announce", "complete") in events
            assert ("directory.lookup", "complete") in events
            expired = announcement(worker.identity, now=dht.now() - 100)
            assert await worker.announce(expired) == 0
            assert events[-1] == ("directory.announce", "failed")

    run_virtual(main())


def test_a_long_model_is_announced_and_found_under_all_its_keys():
    async def main():
        async with Dht(config=DirectoryConfig(max_keys_per_peer=300)) as dht:
            await dht.grow(3)
            long = ModelRef("long", b"l" * 32, 4096)
            mine = record(dht.nodes[1].identity, model=long, now=dht.now()).sign(dht.nodes[1].identity)
            assert await dht.nodes[1].announce(mine) == 3
            assert await (await dht.client()).lookup(long) == [mine]
            lying = dataclasses.replace(long, layer_count=16)
            assert await (await dht.client()).lookup(lying) == []

    run_virtual(main())


def test_a_peer_that_announces_anew_during_a_lookup_is_found():
    async def main():
        async with Dht() as dht:
            _, worker, _ = await dht.grow(3)
            low = LayerSpan(0, 8)
            await worker.announce(signed(worker, dht, span=low))
            for number in range(2, 60):
                looking = [asyncio.create_task(node.lookup(MODEL)) for node in dht.nodes]
                await asyncio.sleep(0.004 * number)
                await worker.announce(signed(worker, dht, sequence=number, span=low))
                assert [len(found) for found in await asyncio.gather(*looking)] == [1] * 3

    run_virtual(main())
