"""What the directory promises of a swarm that loses a third of its nodes at once, and of many publishers of one span."""

import asyncio
import statistics

import pytest
from support.announcements import MODEL, announcement, identity
from support.clock import run_virtual
from support.dht import Dht

from swarm.discovery.keys import distance
from swarm.span import LayerSpan

NODES, KILLED = 30, 9
PUBLISHERS = 200


@pytest.mark.parametrize("seed", [1, 2])
def test_lookups_succeed_right_after_a_third_of_the_nodes_died(seed):
    async def main():
        async with Dht(seed=seed, delay=0.02, loss=0.01) as dht:
            await dht.grow(NODES)
            await asyncio.gather(
                *(
                    node.announce(
                        announcement(node.identity, now=dht.now(), span=LayerSpan(number % 4 * 8, number % 4 * 8 + 8))
                    )
                    for number, node in enumerate(dht.nodes)
                )
            )
            dead = dht.random.sample(dht.nodes[1:], KILLED)
            for node in dead:
                dht.switch.kill(node.host)
            live = [node for node in dht.nodes if node not in dead]
            wanted = {node.identity.peer_id for node in live}
            clients = [await dht.client() for _ in range(5)]
            succeeded, seconds = 0, []
            for node in [*live, *clients]:
                began = dht.now()
                found = {one.record.peer_id for one in await node.lookup(MODEL)}
                seconds.append(dht.now() - began)
                succeeded += found >= wanted
            assert succeeded >= 0.99 * (len(live) + len(clients))
            assert statistics.median(seconds) < 1.0
            assert max(seconds) < 2.0

    run_virtual(main())


def test_two_hundred_publishers_of_one_span_are_all_found():
    async def main():
        async with Dht(seed=3, loss=0.01) as dht:
            await dht.grow(25)
            span, life = LayerSpan(0, 16), 300.0
            records = [
                announcement(identity(5000 + number), now=dht.now(), span=span, life=life)
                for number in range(PUBLISHERS)
            ]
            for first in range(0, PUBLISHERS, len(dht.nodes)):
                await asyncio.gather(
                    *(node.announce(one) for node, one in zip(dht.nodes, records[first:], strict=False))
                )
            client = await dht.client()
            began = dht.now()
            assert {one.raw for one in await client.lookup(MODEL)} == {one.raw for one in records}
            assert dht.now() - began < 3.0
            assert {one.raw for one in await client.lookup_all()} == {one.raw for one in records}

    run_virtual(main())


def test_every_node_knows_somebody_in_every_subtree_so_that_no_corner_is_cut_off():
    async def main():
        async with Dht(seed=4) as dht:
            await dht.grow(64)
            ids = [node._server.node.id for node in dht.nodes]
            for node in dht.nodes:
                own = node._server.node.id
                known = {distance(contact.id, own).bit_length() for contact in node._server.protocol.router.contacts()}
                assert known == {distance(other, own).bit_length() for other in ids if other != own}

    run_virtual(main())
