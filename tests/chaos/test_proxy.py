"""The userland network: every fault it can make, on real sockets of loopback."""

import asyncio
from contextlib import suppress
from random import Random

import pytest

from chaos.network.proxy import HOST, Proxy, Socket
from chaos.network.weather import Lane, Weather


class Inbox(Socket):
    """A UDP socket that keeps what it gets."""

    def __init__(self):
        self.got = asyncio.Queue()

    def datagram_received(self, data, addr):
        self.got.put_nowait((data, addr))


async def socket_on(port):
    _, inbox = await asyncio.get_running_loop().create_datagram_endpoint(Inbox, (HOST, port))
    return inbox


async def with_echo(strike):
    """`strike(link, reader, writer)` on a connection through a link to a server that echoes."""

    async def echo(reader, writer):
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async with Proxy(seed=1) as proxy:
        link = await proxy.link("echo")
        async with await asyncio.start_server(echo, HOST, link.real):
            reader, writer = await asyncio.open_connection(HOST, link.public)
            await strike(link, reader, writer)
            writer.close()


def run(strike):
    asyncio.run(asyncio.wait_for(with_echo(strike), 20))


async def seconds_of(exchange):
    began = asyncio.get_running_loop().time()
    await exchange
    return asyncio.get_running_loop().time() - began


async def say(reader, writer, data):
    writer.write(data)
    assert await reader.readexactly(len(data)) == data


def test_bytes_pass_unchanged_and_latency_is_felt_each_way():
    async def strike(link, reader, writer):
        await say(reader, writer, Random(0).randbytes(1 << 20))
        link.change(latency=0.05)
        assert 0.1 <= await seconds_of(say(reader, writer, b"far")) < 0.3

    run(strike)


def test_a_narrow_link_takes_its_time_and_slices_arrive_whole():
    async def strike(link, reader, writer):
        link.change(bandwidth=400_000.0, slice_bytes=700)
        assert 0.2 <= await seconds_of(say(reader, writer, bytes(100_000))) < 1.5

    run(strike)


def test_a_blackhole_keeps_a_stream_until_it_is_lifted():
    async def strike(link, reader, writer):
        link.change(blackhole=True)
        writer.write(b"late")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.1)
        link.calm("blackhole")
        assert await reader.readexactly(4) == b"late"

    run(strike)


def test_reset_breaks_what_is_open_and_lets_new_connections_in():
    async def strike(link, reader, writer):
        await say(reader, writer, b"x")
        link.pipes.reset()
        with pytest.raises(ConnectionError):
            await reader.readexactly(1)
        again = await asyncio.open_connection(HOST, link.public)
        await say(*again, b"again")
        again[1].close()

    run(strike)


def test_a_reply_is_cut_in_its_middle():
    async def strike(link, reader, writer):
        link.pipes.cut_after = 3
        writer.write(b"answer")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)) as broken:
            await reader.readexactly(6)
        assert getattr(broken.value, "partial", b"ans") == b"ans"
        assert link.pipes.cuts == 1

    run(strike)


def test_flipped_bits():
    async def strike(link, reader, writer):
        link.change(flips=1e-3)
        writer.write(bytes(100_000))
        wrong = sum(byte.bit_count() for byte in await reader.readexactly(100_000))
        assert 120 <= wrong <= 280  # both ways: 200 on average

    run(strike)


def test_stretches_of_a_stream_arrive_twice_or_out_of_order():
    async def strike(link, reader, writer):
        link.change("to", duplicates=1.0)
        writer.write(b"once")
        assert await reader.readexactly(8) == b"onceonce"
        link.calm("duplicates")
        link.change("to", reorders=1.0)
        writer.write(bytes(range(100)))
        turned = await reader.readexactly(100)
        assert sorted(turned) == [*range(100)]
        assert turned != bytes(range(100))

    run(strike)


def test_datagrams_arrive_twice_and_overtake_each_other():
    async def main():
        async with Proxy(seed=2) as proxy:
            one, two = await proxy.link("one"), await proxy.link("two")
            first, second = await socket_on(one.real), await socket_on(two.real)
            two.change("to", duplicates=1.0)
            first.send(b"x", (HOST, two.public))
            assert [(await second.got.get())[0] for _ in range(2)] == [b"x", b"x"]
            two.calm("duplicates")
            two.change("to", reorders=0.5)
            sent = [bytes([number]) for number in range(40)]
            for data in sent:
                first.send(data, (HOST, two.public))
            got = [(await second.got.get())[0] for _ in sent]
            assert got != sent
            assert sorted(got) == sent
            for each in (first, second):
                each.transport.close()

    asyncio.run(asyncio.wait_for(main(), 10))


def test_half_open_hides_the_end_of_the_process():
    async def main():
        async def leave(reader, writer):
            await reader.read(1)
            writer.close()

        async with Proxy() as proxy:
            link = await proxy.link("leaver")
            async with await asyncio.start_server(leave, HOST, link.real):
                link.pipes.half_open = True
                reader, writer = await asyncio.open_connection(HOST, link.public)
                writer.write(b"x")
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(reader.read(1), 0.2)
                link.pipes.half_open = False
                link.pipes.weather_changed()
                assert await reader.read(1) == b""
                writer.close()

    asyncio.run(main())


def test_nobody_behind_the_link_resets_the_connection():
    async def main():
        async with Proxy() as proxy:
            link = await proxy.link("nobody")
            reader, writer = await asyncio.open_connection(HOST, link.public)
            with pytest.raises(ConnectionError):
                await reader.readexactly(1)
            writer.close()

    asyncio.run(main())


def test_no_port_is_given_twice(monkeypatch):
    monkeypatch.setattr("chaos.network.proxy.PORTS", range(31000, 31008))

    async def main():
        async with Proxy() as proxy:
            given = [proxy.free_ports() for _ in range(4)]
            assert len(set(given)) == 4
            with pytest.raises(OSError, match="no free ports"):
                proxy.free_ports()

    asyncio.run(main())


def test_processes_see_each_others_public_ports_only():
    async def main():
        async with Proxy() as proxy:
            one, two = await proxy.link("one"), await proxy.link("two")
            first, second = await socket_on(one.real), await socket_on(two.real)
            first.send(b"hello", (HOST, two.public))
            assert await second.got.get() == (b"hello", (HOST, one.public))
            second.send(b"yes", (HOST, one.public))
            assert await first.got.get() == (b"yes", (HOST, two.public))
            guest = await socket_on(0)
            guest.send(b"?", (HOST, one.public))
            data, stand_in = await first.got.get()
            assert data == b"?"
            first.send(b"!", stand_in)
            assert await guest.got.get() == (b"!", (HOST, one.public))
            for each in (first, second, guest):
                each.transport.close()

    asyncio.run(asyncio.wait_for(main(), 10))


class TestLane:
    """The weather itself, without sockets."""

    def test_datagrams_are_lost_at_the_rate_asked_for(self):
        lane = Lane(Random(3))
        lane.weather = Weather(loss=0.3)
        assert 250 <= sum(lane.drops(0.0) for _ in range(1000)) <= 350

    def test_bandwidth_is_shared_and_its_backlog_bounded(self):
        lane = Lane(Random(0))
        lane.weather = Weather(bandwidth=1000.0)
        assert [lane.due(500, 0.0) for _ in range(3)] == [0.5, 1.0, 1.5]
        assert lane.drops(0.0)
        assert not lane.drops(1.0)

    def test_jitter_is_either_side_of_the_latency(self):
        lane = Lane(Random(0))
        lane.weather = Weather(latency=0.2, jitter=0.1)
        seconds = [lane.due(1, 0.0) for _ in range(200)]
        assert 0.1 <= min(seconds) < 0.15 < 0.25 < max(seconds) <= 0.3
