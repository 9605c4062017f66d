"""Nodes that lie, and what must hold against them: no lookup returns a record that its peer did not sign, or an old one."""

import dataclasses

import pytest
from support.announcements import MODEL, announcement, identity
from support.clock import run_virtual
from support.dht import PORT, Dht

from swarm.discovery import packets
from swarm.discovery.keys import PUBLIC, distance
from swarm.records import ModelRef
from swarm.span import LayerSpan

LOW = PUBLIC.keys_of_model(MODEL)[0]
LIVE = 10  # honest publishers


def lies(dht):
    """Records that a hostile replica may offer, none of which may be believed."""
    now = dht.now()
    victim, liar = identity(900), identity(901)
    good = announcement(victim, now=now)
    forged = dataclasses.replace(good.record, sequence=99).body()
    other = ModelRef("other", b"o" * 32, 32)
    oversized = announcement(liar, now=now).record.body() + bytes(700)
    return [
        good.raw[:64] + forged,
        liar.sign(b"swarm-record-1\0" + forged) + forged,
        good.raw[:-1] + bytes([good.raw[-1] ^ 1]),
        announcement(liar, now=now - 100).raw,
        announcement(liar, now=now + 10_000).raw,
        announcement(liar, now=now, model=other).raw,
        liar.sign(b"swarm-record-1\0" + oversized) + oversized,
        b"",
        "text",
        None,
        [[]],
    ]


def corrupt(dht, directory, kind):
    """Make a node hostile. What it says is well signed: it is a peer like any other."""
    protocol = directory._server.protocol
    honest_find = protocol.rpc_find
    bad = lies(dht)
    fake = [dht.random.randbytes(2) for _ in range(8)]

    def find(sender, key, wanted):
        nodes, count, mark, records = honest_find(sender, key, wanted)
        if kind == "false records":
            return [nodes, 512, b"\0" * 8, [dht.random.choice(bad) for _ in range(3)]]
        if kind == "withholding":
            return [nodes, 0, mark, []]
        if kind == "withholding under an honest fingerprint":
            return [nodes, count, mark, []]
        if kind == "dead nodes":
            near = [key[:-2] + tail for tail in fake]
            return [[packets.pack_node(node, ("10.66.66.66", 1 + node[-1])) for node in near], 0, mark, []]
        if kind == "honest ids at dead addresses":
            return [[node[:20] + b"\x0a\x42\x42\x42\0\1" for node in nodes], count, mark, records]
        return [{"nodes": nodes}, -1, 7]

    protocol.rpc_find = find
    protocol.rpc_page = lambda *_: [b"", bad[:1] + bad[4:] if kind == "false records" else []]
    protocol.rpc_store_record = lambda *_: [1]


KINDS = [
    "false records",
    "withholding",
    "withholding under an honest fingerprint",
    "dead nodes",
    "honest ids at dead addresses",
    "nonsense",
]


@pytest.mark.parametrize("kind", KINDS)
def test_with_a_fifth_of_the_nodes_hostile_every_record_is_found_and_no_other(kind):
    async def main():
        async with Dht(seed=7, loss=0.01) as dht:
            await dht.grow(25)
            for node in dht.random.sample(dht.nodes[1:], 5):
                corrupt(dht, node, kind)
            published = {}
            for number in range(LIVE):
                one = announcement(identity(800 + number), now=dht.now(), sequence=5)
                await dht.nodes[0].announce(one)
                published[one.record.peer_id] = one
            for _ in range(4):
                client = await dht.client()
                began = dht.now()
                found = {one.record.peer_id: one for one in await client.lookup(MODEL)}
                assert found == published
                assert dht.now() - began < 4

    run_virtual(main())


def test_an_older_record_is_not_returned_though_replicas_replay_it():
    async def main():
        async with Dht(seed=8) as dht:
            await dht.grow(12)
            publisher = identity(700)
            older, newer = (announcement(publisher, now=dht.now(), sequence=sequence) for sequence in (1, 2))
            await dht.nodes[0].announce(older)
            nearest = sorted(dht.nodes, key=lambda node: distance(node._server.node.id, LOW))
            for node in nearest[:6]:
                protocol = node._server.protocol
                replay = [b"", [older.raw]]
                protocol.rpc_page = lambda *_, replay=replay: replay
                protocol.rpc_find = lambda sender, key, wanted, find=protocol.rpc_find: [
                    find(sender, key, 0)[0], 1, b"\0" * 8, [older.raw]
                ]  # fmt: skip
                protocol.rpc_store_record = lambda *_: [1]
            await dht.nodes[0].announce(newer)
            for _ in range(3):
                assert await (await dht.client()).lookup(MODEL) == [newer]
            client = await dht.client()
            assert await client.lookup(MODEL) == [newer]
            for node in nearest[6:]:
                dht.switch.kill(node.host)  # only the liars are left
            assert await client.lookup(MODEL) == []

    run_virtual(main())


def test_whoever_brings_a_record_it_is_its_signers():
    async def main():
        async with Dht(seed=9) as dht:
            await dht.grow(6)
            stranger = announcement(identity(600), now=dht.now())
            assert await dht.nodes[3].announce(stranger) == 6
            assert await (await dht.client()).lookup(MODEL) == [stranger]
            stolen = dataclasses.replace(stranger.record, sequence=2, span=LayerSpan(0, 16))
            forged = identity(601).sign(b"swarm-record-1\0" + stolen.body()) + stolen.body()
            for node in dht.nodes:
                assert not node._server.storage.put(LOW, forged, dht.now())

    run_virtual(main())


def test_mutations_of_real_traffic_neither_crash_nor_grow_a_node():
    async def main():
        async with Dht(seed=10) as dht:
            await dht.grow(8)
            carry = dht.switch.carry

            def mutate(data, source, to):
                carry(data, source, to)
                for _ in range(3):
                    changed = bytearray(data)
                    for _ in range(dht.random.choice((1, 2, 30))):
                        changed[dht.random.randrange(len(changed))] = dht.random.randrange(256)
                    cut = dht.random.choice((len(changed), dht.random.randrange(len(changed) + 1)))
                    carry(bytes(changed[:cut]), source, to)

            dht.switch.carry = mutate
            for node in dht.nodes:
                await node.announce(announcement(node.identity, now=dht.now()))
            client = await dht.client()
            assert {one.record.peer_id for one in await client.lookup(MODEL)} == {
                node.identity.peer_id for node in dht.nodes
            }
            for node in [*dht.nodes, client]:
                assert node.counters["crashed"] == 0
                assert node.counters["malformed"] > 10
                assert node.contacts <= 8
            assert {port for _, port in dht.switch.sockets} == {PORT}

    run_virtual(main())
