"""Whom a client avoids and for how long, and what is left of its channels when it goes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise

import pytest
from support.clock import run_virtual
from support.links import CLIENT, WORKER, echo
from support.records import MODEL, make_record, peer

from swarm.client.peers import BACKOFF_MOST, MAX_FAULTS, Peers
from swarm.client.resolver import FRESH_SECONDS, Resolver
from swarm.config import ChannelConfig, ClientConfig
from swarm.errors import NoChain, PeerFault, PeerLost, UsageFault
from swarm.records import PeerRecord, SignedRecord
from swarm.routing.chain import Hop
from swarm.span import LayerSpan
from swarm.trace import Trace
from swarm.transport.channels.server import ChannelServer
from swarm.transport.in_process import MemoryNetwork

A, B = peer(1), peer(2)


def make_peers(hub: MemoryNetwork, probe: object = None) -> Peers:
    return Peers(hub.node(CLIENT.peer_id), ClientConfig(), ChannelConfig(), Trace(), probe)  # type: ignore[arg-type]


def test_of_two_that_fail_again_and_again_each_gets_its_turn() -> None:
    async def main() -> None:
        peers = make_peers(MemoryNetwork())
        loop = asyncio.get_running_loop()
        tried = {A: [loop.time()], B: [loop.time()]}
        until = loop.time() + 60
        while loop.time() < until:
            free = [one for one in (A, B) if one not in peers.avoided(strictly=False)]
            if free:
                tried[free[0]].append(loop.time())
                peers.suspect(free[0])
            await asyncio.sleep(0.25)
        for times in tried.values():
            pauses = [later - earlier for earlier, later in pairwise(times)]
            assert max(pauses) <= BACKOFF_MOST + 0.5
            assert len(times) < 60  # nor is either tried all the time

    run_virtual(main())


@pytest.mark.parametrize("seconds", [None, 0.0, 1.0, 60.0])
def test_whoever_failed_is_left_alone_for_a_moment_and_then_usable_for_want_of_others(seconds: float | None) -> None:
    async def main() -> None:
        peers = make_peers(MemoryNetwork())
        peers.suspect(A, seconds)
        assert peers.avoided(strictly=True) == peers.avoided(strictly=False) == {A}
        await asyncio.sleep(0.3)
        assert peers.avoided(strictly=False) == frozenset()
        assert (A in peers.avoided(strictly=True)) == (seconds != 0.0)
        peers.trust(A)
        assert peers.avoided(strictly=True) == frozenset()

    run_virtual(main())


def test_peers_that_were_left_dial_no_more() -> None:
    """Neither anew, nor to the end of what had begun."""

    async def main() -> None:
        hub = MemoryNetwork(latency=0.1)
        node = hub.node(WORKER.peer_id)
        async with ChannelServer(node, "", 0, echo, ChannelConfig(), Trace()) as server:
            hop = Hop(WORKER.peer_id, (node.address(server.port),), LayerSpan(0, 1), "")
            async with make_peers(hub) as peers:
                dialling = asyncio.create_task(peers.channel(hop))
                await asyncio.sleep(0.25)
            for channel in (dialling, peers.channel(hop)):
                with pytest.raises(UsageFault, match="the client was closed"):
                    await channel
            await asyncio.sleep(1)
            assert not server.channels
            assert not hub.node(CLIENT.peer_id).streams

    run_virtual(main())


def test_who_said_goodbye_is_in_no_chain_until_it_announces_itself_anew() -> None:
    class Directory:
        def __init__(self) -> None:
            self.said: list[PeerRecord] = []

        async def lookup(self, model: object) -> list[SignedRecord]:
            return [SignedRecord(record, b"") for record in self.said]  # as if signed

        lookup_all = lookup

    async def main() -> None:
        hub, directory = MemoryNetwork(latency=0.01), Directory()
        node = hub.node(WORKER.peer_id)
        async with ChannelServer(node, "", 0, echo, ChannelConfig(), Trace()) as server, make_peers(hub) as peers:
            record = make_record(1, "0-9", peer_id=WORKER.peer_id, addresses=(node.address(server.port),), sequence=7)
            directory.said = [record]
            resolver = Resolver(directory, peers, MODEL, now=lambda: record.expires_at - 60, trace=Trace())
            (hop,) = (await resolver.chain(LayerSpan(0, 10))).hops
            channel = await peers.channel(hop)
            server.part(7)
            await asyncio.sleep(0.02)
            assert not channel.closed  # running sessions go on
            with pytest.raises(NoChain):
                await resolver.chain(LayerSpan(0, 10))
            await asyncio.sleep(FRESH_SECONDS)
            with pytest.raises(NoChain):  # the directory does not know yet
                await resolver.chain(LayerSpan(0, 10))
            directory.said = [replace(record, sequence=8)]
            await asyncio.sleep(FRESH_SECONDS)
            assert (await resolver.chain(LayerSpan(0, 10))).hops == (hop,)

    run_virtual(main())


def test_a_dial_ends_when_its_time_is_over() -> None:
    async def main() -> None:
        hub = MemoryNetwork()
        node = hub.node(WORKER.peer_id)
        async with ChannelServer(node, "", 0, echo, ChannelConfig(), Trace()) as server:
            hop = Hop(WORKER.peer_id, (node.address(server.port),), LayerSpan(0, 1), "")
            async with make_peers(hub) as peers:
                hub.freeze(WORKER.peer_id)
                with pytest.raises(PeerFault, match=r"did not answer within 1\.0 s"):
                    await peers.channel(hop, 1.0)
                hub.thaw(WORKER.peer_id)
                assert not (await peers.channel(hop, 1.0)).closed

    run_virtual(main())


def test_no_socket_to_probe_with_hinders_nobody() -> None:
    async def main() -> None:
        async def probe(*_: object) -> dict[object, float]:
            raise OSError("the test has no sockets left")

        await make_peers(MemoryNetwork(), probe).measure([make_record(1, "0-9")])

    run_virtual(main())


def test_who_was_tried_in_vain_is_told_with_its_address_and_what_happened() -> None:
    class Directory:
        async def lookup(self, model: object) -> list[SignedRecord]:
            return []

        lookup_all = lookup

    async def main() -> None:
        peers = make_peers(MemoryNetwork())
        model = MODEL
        resolver = Resolver(Directory(), peers, model, now=lambda: 0.0, trace=Trace())  # type: ignore[arg-type]
        with pytest.raises(NoChain) as untried:
            await resolver.chain(LayerSpan(0, 2))
        assert "tried" not in str(untried.value)
        for number in range(1, MAX_FAULTS + 3):
            lost = PeerLost(f"10.0.0.{number}:4001 cannot be connected to: no answer")
            peers.suspect(peer(number), fault=lost)
        with pytest.raises(
            NoChain, match=rf"tried: peer {A.short}: 10\.0\.0\.1:4001 cannot be .*; and 2 more$"
        ) as told:
            await resolver.chain(LayerSpan(0, 2))
        assert told.value.missing == untried.value.missing
        peers.trust(A)
        assert "10.0.0.1:" not in peers.faults()
        await asyncio.sleep(ClientConfig().suspicion_seconds + 1)
        assert peers.faults() == ""

    run_virtual(main())
