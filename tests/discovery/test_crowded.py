"""Where more announce than a key has room for, they are told so, and do not come again and again."""

import asyncio

import pytest
from support.announcements import announcement
from support.clock import run_virtual
from support.dht import Dht

from swarm.config import DirectoryConfig
from swarm.discovery.directory import MAX_SKIPPED, Turns
from swarm.discovery.server import Published
from swarm.errors import Overloaded
from swarm.records import ANNOUNCE_INTERVAL, ModelRef
from swarm.span import LayerSpan

ROOM = DirectoryConfig(k=2, max_records_per_key=2)
NODES = 16


def model(number):
    return ModelRef(f"m{number}", bytes([number]) * 32, 16)


async def announce(dht, node, sequence, **options):
    try:
        return await node.announce(announcement(node.identity, now=dht.now(), sequence=sequence, **options))
    except Overloaded as full:
        return full


def test_turns_are_all_until_there_is_no_place_and_again_when_there_is():
    turns, told = Turns(), []
    for number in range(40):
        if turns.due(changed=number == 30):
            told.append(number)
            turns.told(Published(held=0, refused=8))
    assert told == [0, 2, 6, 14, 22, 30, 38]
    assert told[3] - told[2] == MAX_SKIPPED + 1
    turns.told(Published(held=1, refused=7))
    assert turns.due(changed=False)
    turns.told(Published(held=0, refused=0))  # nobody answered: that is no refusal
    assert turns.due(changed=False)


def test_an_index_without_room_is_not_asked_by_everybody_each_time():
    async def main():
        async with Dht(config=ROOM) as dht:
            await dht.grow(NODES)
            refusals = []
            for sequence in range(1, 9):
                before = sum(node.counters["refused"] for node in dht.nodes)
                workers = enumerate(dht.nodes)
                stored = await asyncio.gather(
                    *(announce(dht, node, sequence, model=model(number)) for number, node in workers)
                )
                assert stored == [ROOM.k] * NODES  # each model has keys of its own
                refusals.append(sum(node.counters["refused"] for node in dht.nodes) - before)
                await asyncio.sleep(ANNOUNCE_INTERVAL)
            assert refusals[0] >= NODES
            assert sum(refusals[4:]) < 0.5 * refusals[0] * len(refusals[4:])

    run_virtual(main())


def test_who_had_no_place_in_the_index_gets_one_when_others_are_gone():
    async def main():
        async with Dht(config=ROOM) as dht:
            await dht.grow(NODES)
            workers = dht.nodes[1:9]
            for sequence in range(1, 4):
                await asyncio.gather(
                    *(announce(dht, node, sequence, model=model(number)) for number, node in enumerate(workers))
                )
                await asyncio.sleep(ANNOUNCE_INTERVAL)
            client = await dht.client()
            found = {one.record.peer_id for one in await client.lookup_all()}
            left_out = [node for node in workers if node.identity.peer_id not in found]
            assert left_out
            for sequence in range(4, 13):
                await announce(dht, left_out[0], sequence)
                await asyncio.sleep(ANNOUNCE_INTERVAL)
            assert {one.record.peer_id for one in await client.lookup_all()} == {left_out[0].identity.peer_id}

    run_virtual(main())


def test_whose_layers_have_no_room_is_told_so():
    async def main():
        async with Dht(config=ROOM) as dht:
            await dht.grow(NODES)
            answers = await asyncio.gather(
                *(announce(dht, node, 1, span=LayerSpan(0, 16), life=600.0) for node in dht.nodes)
            )
            refused = [answer for answer in answers if isinstance(answer, Overloaded)]
            assert refused
            assert "layers 0-15 of tiny" in str(refused[0])
            assert refused[0].retry_after == ANNOUNCE_INTERVAL
            alone = next(node for node, answer in zip(dht.nodes, answers, strict=True) if answer is refused[0])
            assert await announce(dht, alone, 2, span=LayerSpan(16, 32)) == ROOM.k

    run_virtual(main())


@pytest.mark.parametrize(("nodes", "seconds"), [(10, 6.0), (400, 25.0), (60000, 60.0)])
def test_the_bootstraps_of_a_large_swarm_are_knocked_at_less_often_by_each(nodes, seconds, monkeypatch):
    async def main():
        async with Dht() as dht:
            node = await dht.start()
            monkeypatch.setattr(node._server.protocol.router, "estimated_nodes", lambda: nodes)
            assert node._knock_pause() == seconds

    run_virtual(main())
