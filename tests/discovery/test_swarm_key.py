"""A swarm with a key: who does not have it neither finds anything, nor is answered, nor is believed."""

import asyncio

import pytest
from support.announcements import MODEL, announcement, identity, record
from support.clock import run_virtual
from support.dht import PORT, Dht

from swarm.discovery import packets
from swarm.discovery.keys import PUBLIC, Keyspace, node_id
from swarm.discovery.packets import BadDatagram, Method, Request
from swarm.errors import NoSwarm

KEY, OTHER = b"k" * 32, b"o" * 32
NONCE = bytes(20)


def test_every_key_of_the_directory_depends_on_the_swarms():
    described = record(identity(1))
    spaces = [PUBLIC, Keyspace(KEY), Keyspace(OTHER)]
    every = [key for space in spaces for key in space.keys_of(described)]
    assert len(set(every)) == len(every) == 9
    assert Keyspace(KEY).keys_of(described) == Keyspace(KEY).keys_of(described)
    assert {*Keyspace(KEY).keys_of_model(MODEL)} < {*Keyspace(KEY).keys_of(described)}
    assert len({space.domain(b"response") for space in spaces}) == 3


@pytest.mark.parametrize(("asking", "answering"), [(None, KEY), (KEY, None), (OTHER, KEY)])
def test_datagrams_of_another_swarm_are_refused(asking, answering):
    sent, taken = Keyspace(asking), Keyspace(answering)
    request = packets.pack_request(Request(NONCE, Method.STORE, b"", b"", (b"k" * 20, b"r" * 900)), sent)
    assert packets.MIN_REQUEST <= len(request) <= packets.MAX_DATAGRAM
    assert packets.parse_request(request, sent)
    response = packets.pack_response(NONCE, identity(1), b"t" * 8, ("10.0.0.1", 1), 0, 0.0, [], sent)
    assert packets.parse_response(response, sent)
    with pytest.raises(BadDatagram):
        packets.parse_request(request, taken)
    with pytest.raises(BadDatagram):
        packets.parse_response(response, taken)


def test_any_change_to_a_members_request_is_noticed():
    space = Keyspace(KEY)
    data = packets.pack_request(Request(NONCE, Method.FIND, b"s" * 20, b"t" * 8, (b"k" * 20, 1)), space)
    for place in range(0, len(data), 7):
        with pytest.raises(BadDatagram):
            packets.parse_request(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :], space)
    for size in range(0, len(data), 17):
        with pytest.raises(BadDatagram):
            packets.parse_request(data[:size], space)


def test_members_find_each_other_and_outsiders_find_nothing():
    async def main():
        async with Dht() as dht:
            for _ in range(12):
                await dht.start(swarm_key=KEY)
            for node in dht.nodes[3:6]:
                assert await node.announce(announcement(node.identity, now=dht.now())) == 8
            assert len(await (await dht.client(swarm_key=KEY)).lookup(MODEL)) == 3
            for key in (None, OTHER):
                stranger = dht.make(swarm_key=key, passive=True)
                async with stranger:
                    with pytest.raises(NoSwarm):
                        await stranger.join()
                    assert await stranger.lookup(MODEL) == await stranger.lookup_all() == []
                    assert stranger.counters["served"] == 0
            assert dht.nodes[0].counters["malformed"] > 0

    run_virtual(main())


def test_an_outsider_who_is_named_by_members_is_neither_listed_nor_told_anything():
    async def main():
        async with Dht() as dht:
            for _ in range(6):
                await dht.start(swarm_key=KEY)
            outsider = dht.make(swarm_key=None, bootstrap=[])
            async with outsider:
                find = dht.nodes[2]._server.protocol.rpc_find
                lie = packets.pack_node(node_id(outsider.identity.peer_id), (outsider.host, PORT))
                dht.nodes[2]._server.protocol.rpc_find = lambda *asked: [[lie], *find(*asked)[1:]]
                await asyncio.gather(
                    *(node.announce(announcement(node.identity, now=dht.now())) for node in dht.nodes[1:])
                )
                client = await dht.client(swarm_key=KEY)
                assert len(await client.lookup(MODEL)) == 5
                assert all(node.contacts <= 6 for node in [*dht.nodes, client])
                assert outsider._server.storage.size == outsider.contacts == 0
                assert outsider.counters["malformed"] > 0

    run_virtual(main())
