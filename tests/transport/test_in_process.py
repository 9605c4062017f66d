import asyncio

import pytest
from support.clock import run_virtual
from support.links import CLIENT, WORKER, now

from swarm.errors import PeerLost, PortInUse
from swarm.transport.in_process import WINDOW_BYTES, MemoryNetwork

A, B = CLIENT.peer_id, WORKER.peer_id


class Ear:
    """A receiver that writes down what it hears and when."""

    def __init__(self) -> None:
        self.heard: list = []
        self.resumed = 0
        self.lost: str | None = None

    def data_received(self, data):
        self.heard.append((round(now(), 6), bytes(data)))

    def writing_resumed(self):
        self.resumed += 1

    def connection_lost(self, reason):
        assert self.lost is None
        self.lost = reason

    @property
    def bytes(self) -> bytes:
        return b"".join(data for _, data in self.heard)


async def joined(hub: MemoryNetwork):
    """Both ends of a stream and what they hear."""
    far: list = []
    listening = await hub.node(B).listen("0.0.0.0", 7700, far.append)
    near = await hub.node(A).connect(hub.node(B).address(listening.port), B)
    ears = Ear(), Ear()
    near.start(ears[0])
    far[0].start(ears[1])
    return near, far[0], *ears


async def settle(seconds: float = 1.0) -> None:
    await asyncio.sleep(seconds)


def test_bytes_arrive_in_order_with_the_link_s_latency_and_rate():
    async def main():
        near, far, ear, far_ear = await joined(MemoryNetwork(latency=0.1, rate=8192.0))
        began = now()
        near.write([b"a" * 4096, b"b" * 4096])
        far.write([b"back"])
        assert near.unsent == 8192
        await settle(3)
        assert [(round(at - began, 3), data[:1]) for at, data in far_ear.heard] == [(0.6, b"a"), (1.1, b"b")]
        assert ear.bytes == b"back"
        assert near.unsent == 0

    run_virtual(main())


def test_a_sender_is_full_until_what_it_wrote_arrives():
    async def main():
        near, _, ear, far_ear = await joined(MemoryNetwork(rate=1e6))
        near.write([bytes(WINDOW_BYTES)])
        assert near.full
        await settle()
        assert not near.full
        assert ear.resumed == 1
        assert len(far_ear.bytes) == WINDOW_BYTES

    run_virtual(main())


def test_kill_is_seen_behind_what_was_sent():
    async def main():
        hub = MemoryNetwork()
        near, far, ear, far_ear = await joined(hub)
        far.write([b"last words"])
        hub.kill(B)
        near.write([b"to the dead"])
        await settle()
        assert ear.bytes == b"last words"
        assert ear.lost == "connection reset by peer"
        assert far_ear.bytes == b""
        with pytest.raises(PeerLost, match="refuses"):
            await hub.node(A).connect(hub._nodes[B].address(7700), B)
        assert hub.node(B).host != far.node.host
        assert not hub.pipes

    run_virtual(main())


def test_freeze_queues_both_directions_and_thaw_delivers():
    async def main():
        hub = MemoryNetwork()
        near, far, ear, far_ear = await joined(hub)
        hub.freeze(B)
        near.write([b"in"])
        far.write([b"out"])
        await settle()
        assert ear.bytes == far_ear.bytes == b""
        assert near.unsent == 2
        connecting = asyncio.create_task(hub.node(A).connect(hub.node(B).address(7700), B))
        await settle()
        assert not connecting.done()
        hub.thaw(B)
        await settle()
        assert (ear.bytes, far_ear.bytes) == (b"out", b"in")
        assert connecting.done()

    run_virtual(main())


def test_a_frozen_peer_that_is_killed_is_seen():
    async def main():
        hub = MemoryNetwork()
        _, _, ear, _ = await joined(hub)
        hub.freeze(B)
        hub.kill(B)
        await settle()
        assert ear.lost == "connection reset by peer"

    run_virtual(main())


def test_a_cut_hides_even_a_death_until_it_heals():
    async def main():
        hub = MemoryNetwork()
        near, far, ear, far_ear = await joined(hub)
        hub.cut(A, B)
        near.write([b"x"])
        hub.kill(B)
        await settle()
        assert ear.lost is None
        hub.heal(A, B)
        await settle()
        assert ear.lost is not None
        assert far_ear.bytes == b""
        assert far.ended

    run_virtual(main())


def test_close_flushes_and_both_ends_learn_it_once():
    async def main():
        near, _, ear, far_ear = await joined(MemoryNetwork(latency=0.1))
        near.write([b"bye"])
        near.close()
        near.abort()
        near.write([b"never"])
        await settle()
        assert far_ear.bytes == b"bye"
        assert far_ear.lost == "it closed the connection"
        assert ear.lost == "closed here"

    run_virtual(main())


def test_what_came_before_start_is_kept():
    async def main():
        hub = MemoryNetwork()
        far: list = []
        listening = await hub.node(B).listen("0.0.0.0", 0, far.append)
        near = await hub.node(A).connect(hub.node(B).address(listening.port), B)
        far[0].write([b"early"])
        far[0].close()
        await settle()
        ear = Ear()
        near.start(ear)
        await settle()
        assert (ear.bytes, ear.lost) == (b"early", "it closed the connection")

    run_virtual(main())


def test_ports_and_identities_are_checked():
    async def main():
        hub = MemoryNetwork()
        node = hub.node(B)
        listening = await node.listen("0.0.0.0", 7700, lambda stream: None)
        with pytest.raises(PortInUse, match="7700"):
            await node.listen("0.0.0.0", 7700, lambda stream: None)
        with pytest.raises(PeerLost, match="proves to be peer"):
            await hub.node(A).connect(node.address(7700), A)
        await listening.aclose()
        with pytest.raises(PeerLost, match="refuses"):
            await hub.node(A).connect(node.address(7700), B)
        assert "streams=0" in repr(node)

    run_virtual(main())


def test_a_cut_may_have_one_direction():
    async def main():
        hub = MemoryNetwork()
        near, far, ear, far_ear = await joined(hub)
        hub.cut(A, B, both=False)
        near.write([b"there"])
        far.write([b"back"])
        await settle()
        assert (ear.bytes, far_ear.bytes) == (b"back", b"")
        connecting = asyncio.create_task(hub.node(B).connect(hub.node(A).address(1), A))
        with pytest.raises(PeerLost):  # nobody listens there; who listens behind a cut is not found out
            await connecting
        hub.heal(A, B)
        await settle()
        assert far_ear.bytes == b"there"

    run_virtual(main())


def test_damage_lets_a_part_arrive_and_ends_both_sides():
    async def main():
        hub = MemoryNetwork(latency=0.1)
        near, far, ear, far_ear = await joined(hub)
        far.write([b"12345678"])
        near.write([b"abcdefgh"])
        hub.damage(B, keep=0.5)
        await settle()
        assert ear.bytes == b"1234"
        assert far_ear.bytes == b""
        assert ear.lost == far_ear.lost == "bad record MAC"
        assert not hub.pipes

    run_virtual(main())


def test_bytes_of_a_slowed_peer_take_longer_and_keep_their_order():
    async def main():
        hub = MemoryNetwork(latency=0.1)
        near, _, _, far_ear = await joined(hub)
        began = now()
        hub.slowed[B] = 0.4
        near.write([b"slow"])
        del hub.slowed[B]
        near.write([b"fast"])
        await settle()
        assert [(round(at - began, 3), data) for at, data in far_ear.heard] == [(0.5, b"slowfast")]

    run_virtual(main())
