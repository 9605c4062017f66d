"""Half of the ids near a key are hostile: ground until they lie there. Live records are found all the same."""

import asyncio
import itertools
import statistics
import sys

import pytest
from support.announcements import MODEL, announcement, identity
from support.clock import run_virtual
from support.dht import PORT, Dht

from swarm.discovery import packets
from swarm.discovery.keys import PUBLIC, distance, node_id
from swarm.discovery.packets import Method
from swarm.span import LayerSpan

LOW = PUBLIC.keys_of_model(MODEL)[0]
HONEST, PUBLISHERS, CLIENTS = 32, 10, 4
KINDS = [
    "silence",
    "nonsense",
    "withholding",
    "clique",
    "made-up neighbours",
    "stale records",
    "huge counts",
    "wrong time",
]


class Besieged(Dht):
    """A swarm of honest nodes, and hostile ones whose ids lie among those nearest to LOW: every second one there is hostile."""

    def __init__(self, seed):
        super().__init__(seed, loss=0.01)
        self.hostile = []
        self.stale = []
        self.sequence = 0

    @staticmethod
    def host(number):
        return f"45.{number >> 8 & 255}.{number & 255}.1"  # every one in a network of its own

    def ground(self, count):
        """Numbers of keys whose ids lie near LOW, each between two neighbouring honest ones, from the nearest on."""
        near = sorted(distance(node._server.node.id, LOW) for node in self.nodes)[:count]
        found, number = {}, 100_000 * (self._number + 1)
        bounds = list(zip([0, *near], near, strict=False))
        while len(found) < count:
            number += 1
            place = distance(node_id(identity(number).peer_id), LOW)
            if place < near[-1]:
                gap = next(index for index, (low, high) in enumerate(bounds) if low <= place < high)
                found.setdefault(min((g for g in range(count) if g not in found), key=lambda g: abs(g - gap)), number)
        return list(found.values())

    async def besiege(self, kind, count, host):
        for position, number in enumerate(self.ground(count)):
            self._number += 1
            node = await self._stack.enter_async_context(self.make(number=number, host=host.format(position)))
            await node.join()
            self.hostile.append(node)
        for position, node in enumerate(self.hostile):
            self.corrupt(node, KINDS[position % len(KINDS)] if kind == "all of them" else kind)

    def corrupt(self, node, kind):
        protocol = node._server.protocol
        honest = protocol.rpc_find

        def find(sender, key, wanted):
            nodes, _, mark, records = honest(sender, key, wanted)
            clique = [packets.pack_node(one._server.node.id, (one.host, PORT)) for one in self.hostile]
            if kind == "nonsense":
                return [{"nodes": nodes}, -1, 7]
            if kind == "withholding":
                return [nodes, 0, mark, []]
            if kind == "clique":
                return [clique[:8], 0, mark, []]
            if kind == "made-up neighbours":
                tails = (self.random.randbytes(2) for _ in range(8))
                made_up = [packets.pack_node(key[:-2] + tail, (f"47.66.{tail[0]}.{tail[1]}", 1)) for tail in tails]
                return [made_up, 0, mark, []]
            if kind == "stale records":
                return [clique[:8], len(self.stale), mark, self.stale[:3]]
            if kind == "huge counts":
                return [clique[:8], 1 << 40, self.random.randbytes(8), []]
            return [nodes, 0, mark, records]

        protocol.rpc_find = find
        protocol.rpc_page = lambda *_: [b"\x80" + bytes(19), self.stale[:2]]
        protocol.rpc_store_record = lambda *_: [1]
        if kind == "silence":
            serve = protocol._on_request
            protocol._on_request = lambda asked, *rest: serve(asked, *rest) if asked.method is Method.PING else None
        if kind == "wrong time":
            protocol.now = lambda: self.now() - 3600.0

    async def announce(self, publishers):
        self.sequence += 1
        for node in publishers:
            mine = announcement(node.identity, now=node.time(), sequence=self.sequence, span=LayerSpan(0, 16))
            await node.announce(mine)


async def measure(kind, seed, count=8, host="46.99.{}.1", siege=Besieged):
    async with siege(seed) as dht:
        await dht.grow(HONEST)
        publishers = dht.nodes[1 : 1 + PUBLISHERS]
        await dht.announce(publishers)
        dht.stale = [announcement(node.identity, now=dht.now() - 70, span=LayerSpan(0, 16)).raw for node in publishers]
        await dht.besiege(kind, count, host)
        await asyncio.sleep(61)  # what was stored before is gone
        living = publishers[2:]  # of the others there are stale records only
        await dht.announce(living)
        wanted, shares, seconds, sent = {node.identity.peer_id for node in living}, [], [], []
        askers = [await dht.client() for _ in range(CLIENTS)] + dht.nodes[20:22]
        for node in askers:
            carried, began = dht.switch.carried[node.host], dht.now()
            found = {one.record.peer_id for one in await node.lookup(MODEL)}
            seconds.append(dht.now() - began)
            sent.append(dht.switch.carried[node.host] - carried)
            shares.append(len(found & wanted) / len(wanted))
            assert found <= wanted
        return shares, seconds, sent


@pytest.mark.parametrize("kind", ["silence", "clique", "made-up neighbours", "all of them"])
def test_half_of_the_ids_near_a_key_are_hostile(kind):
    async def main():
        shares, seconds, sent = await measure(kind, 5)
        sys.stdout.write(
            f"{kind}: {statistics.fmean(shares):.1%} found, {min(shares):.1%} at worst, "
            f"in {statistics.median(seconds):.2f} s, {max(seconds):.2f} s at worst, {max(sent)} datagrams\n"
        )
        assert statistics.fmean(shares) >= 0.95
        assert max(seconds) < 3.0
        assert max(sent) < 400

    run_virtual(main())


class OneNetwork(Besieged):
    """All hostile ids are nearer than any honest one, and in one /24."""

    def ground(self, count):
        near = min(distance(node._server.node.id, LOW) for node in self.nodes)
        numbers = itertools.count(10_000_000)
        fitting = (number for number in numbers if distance(node_id(identity(number).peer_id), LOW) < near)
        return list(itertools.islice(fitting, count))


def test_one_network_does_not_get_hold_of_a_key_by_grinding_ids():
    async def main():
        shares, _, _ = await measure("clique", 5, count=12, host="46.99.1.{}", siege=OneNetwork)
        assert min(shares) == 1.0

    run_virtual(main())
