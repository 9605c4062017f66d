"""Who is lost, who is stalled, and who is only slow."""

import asyncio

import pytest
from support.clock import run_virtual
from support.links import LOAD, WORKER, echo, forward, memory_link, now

from swarm import errors as e
from swarm.wire.messages import Working
from swarm.wire.tensors import PLANES


async def never(message, exchange):
    """Works for ever, and says so."""
    while True:
        exchange.progress(Working(message.session_id, message.step, 1))
        await asyncio.sleep(0.5)


def test_a_dead_peer_is_lost_at_once_for_every_request():
    async def main():
        async with memory_link(never) as link:
            asked = [asyncio.create_task(link.channel.request(forward(step=step))) for step in range(3)]
            await asyncio.sleep(1)
            began = now()
            link.hub.kill(WORKER.peer_id)
            faults = await asyncio.gather(*asked, return_exceptions=True)
            assert now() == began
            assert [type(fault) for fault in faults] == [e.PeerLost] * 3
            assert len({id(fault) for fault in faults}) == 3
            assert "connection reset" in str(faults[0])
            with pytest.raises(e.PeerLost):
                await link.channel.request(forward())
            assert isinstance(await link.channel.wait_closed(), e.PeerLost)

    run_virtual(main())


@pytest.mark.parametrize("latency", [0.0, 0.05, 0.5])
def test_a_frozen_peer_is_stalled_within_five_seconds(latency):
    async def main():
        async with memory_link(never, latency=latency) as link:
            asked = asyncio.create_task(link.channel.request(forward()))
            await asyncio.sleep(20)
            assert not asked.done()
            link.hub.freeze(WORKER.peer_id)
            began = now()
            with pytest.raises(e.PeerStalled, match="sent nothing for"):
                await asked
            assert 2.4 < now() - began < 5  # silence counts from the last byte

    run_virtual(main())


def test_a_request_to_a_peer_that_froze_while_idle_stalls_too():
    async def main():
        async with memory_link() as link:
            await asyncio.sleep(500)
            link.hub.freeze(WORKER.peer_id)
            began = now()
            with pytest.raises(e.PeerStalled):
                await link.channel.request(forward())
            assert 2.9 < now() - began < 5

    run_virtual(main())


def test_a_short_freeze_is_survived():
    async def main():
        async with memory_link() as link:
            link.hub.freeze(WORKER.peer_id)
            asked = asyncio.create_task(link.channel.request(forward(1 << 20)))
            await asyncio.sleep(2.5)
            link.hub.thaw(WORKER.peer_id)
            assert (await asked).tensor.data.nbytes == 1 << 20

    run_virtual(main())


@pytest.mark.parametrize(("rate", "size"), [(125e3, 512 << 10), (20e3, 512 << 10), (125e3, 4 << 20)])
def test_a_slow_transfer_that_moves_is_never_suspected(rate, size):
    async def main():
        async with memory_link(latency=0.05, rate=rate) as link:
            began = now()
            reply = await link.channel.request(forward(size))
            assert reply.tensor.data.nbytes == size
            assert now() - began > 2 * size / rate * 0.6  # the reply may have been compressed

    run_virtual(main())


def test_a_peer_that_freezes_during_a_slow_upload_is_noticed():
    async def main():
        async with memory_link(rate=125e3) as link:
            asked = asyncio.create_task(link.channel.request(forward(4 << 20)))
            await asyncio.sleep(3)
            link.hub.freeze(WORKER.peer_id)
            began = now()
            with pytest.raises(e.PeerStalled):
                await asked
            assert now() - began < 5

    run_virtual(main())


def test_small_messages_overtake_large_ones():
    async def main():
        async with memory_link(rate=1e6) as link:
            large = asyncio.create_task(link.channel.request(forward(4 << 20)))
            await asyncio.sleep(0.5)
            began = now()
            await link.channel.request(forward(4096))
            assert now() - began < 0.4
            assert not large.done()
            await large

    run_virtual(main())


@pytest.mark.parametrize(("rate", "patience"), [(125e3, 0.8), (1e6, 0.2), (12.5e6, 0.2)])
def test_a_decode_row_is_not_held_up_by_another_session_s_chunks(rate, patience):
    async def main():
        async with memory_link(rate=rate, latency=0.02) as link:
            chunks = [asyncio.create_task(link.channel.request(forward(2 << 20))) for _ in range(3)]
            await asyncio.sleep(1)
            for _ in range(5):
                began = now()
                await link.channel.request(forward(4096))
                assert now() - began < patience
            for chunk in chunks:
                chunk.cancel()

    run_virtual(main())


def test_when_this_process_was_stopped_the_peer_is_not_blamed():
    async def busy(message, exchange):
        await asyncio.sleep(30)
        return await echo(message, exchange)

    async def main():
        async with memory_link(busy, latency=0.1) as link:
            asked = asyncio.create_task(link.channel.request(forward()))
            await asyncio.sleep(5)
            asyncio.get_running_loop().advance(600)
            assert (await asked).load == LOAD

    run_virtual(main())


def test_the_codec_is_used_on_a_slow_link_only():
    async def main(rate):
        async with memory_link(rate=rate) as link:
            await link.channel.request(forward(1 << 20))
            before = link.channel._sender.left
            reply = await link.channel.request(forward(1 << 20, fill=1))
            assert bytes(reply.tensor.data[:2]) == b"\1\1"
            return link.channel._codec(forward(1 << 20)), link.channel._sender.left - before

    codec, sent = run_virtual(main(10e6))
    assert codec == PLANES
    assert sent < 0.6 * (1 << 20)
    codec, sent = run_virtual(main(1e9))
    assert codec == "raw"
    assert sent > 1 << 20


def test_the_round_trip_is_measured_and_renewed():
    async def main():
        async with memory_link(latency=0.04) as link:
            await asyncio.sleep(1)
            assert link.channel.round_trip == pytest.approx(0.08)
            assert link.channel.load is None
            link.hub.latency = 0.5  # of new links only
            await asyncio.sleep(100)
            await link.channel.request(forward())
            assert link.channel._sender.pinged_at > now() - 1
            assert "round_trip=80.0 ms" in repr(link.channel)

    run_virtual(main())


def test_a_pong_tells_the_load():
    async def main():
        async with memory_link(load=lambda: LOAD) as link:
            await asyncio.sleep(1)
            assert link.channel.load == LOAD

    run_virtual(main())
