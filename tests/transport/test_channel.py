import asyncio

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clock import run_virtual
from support.links import CLIENT, LOAD, SESSION, WORKER, echo, forward, memory_link, now
from support.strategies import forwards

from swarm import errors as e
from swarm.config import ChannelConfig
from swarm.trace import Trace
from swarm.transport import sender
from swarm.transport.channel import dial
from swarm.transport.memory import MemoryNetwork
from swarm.transport.server import ChannelServer
from swarm.wire import connection as wire
from swarm.wire import messages as m
from swarm.wire.tensors import PLANES


async def never(message, exchange):
    await asyncio.Event().wait()


@given(st.lists(forwards, min_size=1, max_size=6))
@settings(max_examples=25)
def test_requests_are_answered_each_with_its_own_reply(asked):
    async def main():
        async with memory_link(latency=0.01) as link:
            replies = await asyncio.gather(*map(link.channel.request, asked))
            for message, reply in zip(asked, replies, strict=True):
                assert (reply.step, reply.tensor) == (message.step, message.tensor)

    run_virtual(main())


def test_both_sides_may_ask():
    async def main():
        hub = MemoryNetwork()
        node = hub.node(WORKER.peer_id)
        config = ChannelConfig()
        async with ChannelServer(node, "0.0.0.0", 0, echo, config, Trace()) as server:
            address = node.address(server.port)
            channel = await dial(hub.node(CLIENT.peer_id), [address], WORKER.peer_id, config, handler=echo)
            (far,) = server.channels
            here, there = await asyncio.gather(channel.request(forward(9000)), far.request(forward(300)))
            assert here.tensor.data.nbytes == 9000
            assert there.tensor.data.nbytes == 300
            await channel.aclose()

    run_virtual(main())


def test_a_client_serves_nothing_by_default():
    async def main():
        async with memory_link() as link:
            with pytest.raises(e.PeerFault, match="serves nothing"):
                await link.far.request(m.Renew(SESSION))

    run_virtual(main())


def test_working_is_heard_before_the_reply():
    async def slow(message, exchange):
        assert exchange.peer_id == CLIENT.peer_id
        for queue in (3, 2, 1):
            exchange.progress(m.Working(message.session_id, message.step, queue))
            await asyncio.sleep(2.9)
        return await echo(message, exchange)

    async def main():
        heard = []
        async with memory_link(slow) as link:
            await link.channel.request(forward(), lambda working: heard.append(working.queue_rows))
        assert heard == [3, 2, 1]

    run_virtual(main())


def test_a_callback_that_fails_fails_its_own_request_alone():
    async def working(message, exchange):
        exchange.progress(m.Working(message.session_id, message.step, 1))
        return await echo(message, exchange)

    async def main():
        async with memory_link(working) as link:
            with pytest.raises(ZeroDivisionError):
                await link.channel.request(forward(), lambda _: 1 / 0)
            await link.channel.request(forward())

    run_virtual(main())


@pytest.mark.parametrize(
    ("raised", "seen", "says"),
    [
        (e.Overloaded("2 GB asked, 1 GB free", 2.5), e.Overloaded, "2 GB asked"),
        (e.Draining("bye"), e.Draining, "bye"),
        (e.SessionFault("lapsed"), e.SessionFault, "lapsed"),
        (e.UsageFault("wrong shape"), e.PeerFault, "wrong shape"),
    ],
)
def test_an_error_of_the_handler_is_the_asker_s(raised, seen, says):
    async def refuse(message, exchange):
        raise raised

    async def main():
        async with memory_link(refuse) as link:
            with pytest.raises(seen, match=says) as caught:
                await link.channel.request(forward())
            assert type(caught.value) is seen
            assert not link.channel.closed
            assert [event for event in link.events if event.phase == "failed"] == []

    run_virtual(main())


def test_a_bug_in_the_handler_is_logged_and_others_go_on(caplog):
    async def buggy(message, exchange):
        if message.step == 1:
            raise KeyError("our secret")
        if message.step == 2:
            return m.Closed(SESSION)  # answers no Forward
        return await echo(message, exchange)

    async def main():
        async with memory_link(buggy) as link:
            for step in (1, 2):
                with pytest.raises(e.PeerFault, match="failed on its side") as caught:
                    await link.channel.request(forward(step=step))
                assert "our secret" not in str(caught.value)
            assert (await link.channel.request(forward())).load == LOAD
            assert [event.name for event in link.events if event.phase == "failed"] == ["channel.serve"] * 2

    run_virtual(main())
    assert "KeyError" in caplog.text
    assert "LocalFault" in caplog.text


def test_a_cancelled_request_is_forgotten_and_its_late_reply_ignored():
    async def slow(message, exchange):
        await asyncio.sleep(1)
        return await echo(message, exchange)

    async def main():
        async with memory_link(slow) as link:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(link.channel.request(forward()), 0.5)
            assert (await link.channel.request(forward(step=7))).step == 7
            assert link.channel._connection.unanswered == 0

    run_virtual(main())


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


def test_requests_beyond_the_cap_are_refused_before_they_are_sent():
    async def main():
        async with memory_link(never, ChannelConfig(max_streams=2)) as link:
            asked = [asyncio.create_task(link.channel.request(forward())) for _ in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(e.Overloaded, match="2 requests"):
                await link.channel.request(forward())
            link.channel.abort("enough")
            assert all("enough" in str(fault) for fault in await asyncio.gather(*asked, return_exceptions=True))

    run_virtual(main())


def test_a_full_outbox_makes_the_asker_wait():
    async def main():
        async with memory_link(rate=1e6, config=ChannelConfig(max_outbox_bytes=1 << 20)) as link:
            asked = [asyncio.create_task(link.channel.request(forward(1 << 20))) for _ in range(6)]
            await asyncio.sleep(0)
            assert link.channel._sender.crowded
            most = 0
            while not all(task.done() for task in asked):
                most = max(most, link.channel._sender.pending)
                await asyncio.sleep(0.1)
            assert most < 4 << 20
            waiting = [asyncio.create_task(link.channel.request(forward(1 << 20))) for _ in range(6)]
            await asyncio.sleep(0)
            link.hub.kill(WORKER.peer_id)
            assert {type(fault) for fault in await asyncio.gather(*waiting, return_exceptions=True)} == {e.PeerLost}

    run_virtual(main())


def hello_of(version: int) -> bytes:
    return wire.frames.build(1, 0, msgpack.packb([version, "other"]), memoryview(b""), 1024)[0][0]


def test_another_version_is_named_to_whoever_dials():
    async def main():
        hub = MemoryNetwork()
        node = hub.node(WORKER.peer_id)
        listening = await node.listen("0.0.0.0", 0, lambda stream: stream.write([hello_of(9)]))
        with pytest.raises(e.VersionMismatch, match="speaks version 9 of the protocol, we speak 1"):
            await dial(hub.node(CLIENT.peer_id), [node.address(listening.port)], WORKER.peer_id, ChannelConfig())

    run_virtual(main())


def test_a_peer_of_another_version_is_told_ours_and_let_go():
    async def main():
        async with memory_link() as link:
            stream, raw = await raw_stream(link, greet=False)
            stream.write([hello_of(9)])
            await asyncio.sleep(1)
            assert b"\x93\x01\xa5swarm" in raw.heard
            assert raw.lost == "it closed the connection"
            assert any("speaks version 9" in event.details.get("reason", "") for event in link.events)
            assert not link.channel.closed

    run_virtual(main())


def test_dial_names_every_address_and_why():
    async def main():
        hub = MemoryNetwork()
        client, worker = hub.node(CLIENT.peer_id), hub.node(WORKER.peer_id)
        config = ChannelConfig()
        async with ChannelServer(worker, "0.0.0.0", 0, echo, config, Trace()) as server:
            good, bad = worker.address(server.port), worker.address(9)
            channel = await dial(client, [bad, good], WORKER.peer_id, config)
            await channel.aclose()
            hub.freeze(WORKER.peer_id)
            began = now()
            with pytest.raises(e.PeerLost) as caught:
                await dial(client, [good, bad], WORKER.peer_id, config)
            assert now() - began <= config.connect_seconds
            assert f"{good} did not answer within 2.0 s" in str(caught.value)
            assert str(bad) in str(caught.value)
            hub.thaw(WORKER.peer_id)
            with pytest.raises(e.PeerLost, match="no address"):
                await dial(client, [], WORKER.peer_id, config)

    run_virtual(main())


class Raw:
    """A peer that proved its key and then sends what it likes."""

    def __init__(self) -> None:
        self.heard = b""
        self.lost = None

    def data_received(self, data):
        self.heard += bytes(data)

    def writing_resumed(self):
        pass

    def connection_lost(self, reason):
        self.lost = reason


async def raw_stream(link, greet: bool = True):
    stranger = link.hub.node(type(CLIENT).from_seed(b"x" * 32).peer_id)
    stream = await stranger.connect(link.hub.node(WORKER.peer_id).address(link.server.port), WORKER.peer_id)
    raw = Raw()
    stream.start(raw)
    if greet:
        connection = wire.Connection(wire.Role.DIALLER, "raw", 1024)
        stream.write([part for frame in connection.hello() for part in frame])
    return stream, raw


@pytest.mark.parametrize("junk", [b"\xff" * 16, b"GET / HTTP/1.1\r\n\r\n", bytes(range(64)), bytes(16)])
@pytest.mark.parametrize("greet", [True, False])
def test_junk_ends_its_own_channel_alone(junk, greet):
    async def main():
        async with memory_link() as link:
            stream, raw = await raw_stream(link, greet)
            stream.write([junk])
            reply, _ = await asyncio.gather(link.channel.request(forward()), asyncio.sleep(1))
            assert reply.load == LOAD
            assert raw.lost is not None
            assert len(link.server.channels) == 1

    run_virtual(main())


def test_a_peer_that_says_nothing_is_dropped():
    async def main():
        async with memory_link() as link:
            _, raw = await raw_stream(link, greet=False)
            await asyncio.sleep(ChannelConfig().connect_seconds + 0.1)
            assert raw.lost is not None
            assert not link.channel.closed

    run_virtual(main())


def test_a_flood_of_pings_that_is_never_read_ends_the_channel(monkeypatch):
    monkeypatch.setattr(sender, "MAX_URGENT_FRAMES", 100)

    async def main():
        async with memory_link() as link:
            stream, _ = await raw_stream(link)
            await asyncio.sleep(0.1)
            far = next(channel for channel in link.server.channels if channel.peer_id != CLIENT.peer_id)
            far._sender._stream.outgoing.bytes = 1 << 30  # as when nobody reads at the other end
            ping = b"\x01\0\0\0\x02\0\x01\0" + bytes(8) + b"\x90"
            for _ in range(200):
                stream.write([ping])
            fault = await far.wait_closed()
            assert isinstance(fault, e.ProtocolFault)
            assert "pings more often" in str(fault)

    run_virtual(main())


def test_whoever_holds_most_memory_is_cut_off():
    async def main():
        config = ChannelConfig(max_held_bytes=4 << 20)
        async with memory_link(never, config) as link:
            honest = asyncio.create_task(link.channel.request(forward(1 << 20)))
            await asyncio.sleep(0.1)
            hog = type(CLIENT).from_seed(b"h" * 32)
            hub = link.hub
            channel = await dial(
                hub.node(hog.peer_id), [hub.node(WORKER.peer_id).address(link.server.port)], WORKER.peer_id, config
            )
            with pytest.raises(e.PeerLost):
                await channel.request(forward(8 << 20))
            assert not honest.done()
            assert link.server._held_bytes == 1 << 20
            honest.cancel()

    run_virtual(main())


def test_a_peer_that_does_not_read_its_replies_is_cut_off():
    async def main():
        async with memory_link(config=ChannelConfig(max_held_bytes=2 << 20)) as link:
            stream, raw = await raw_stream(link)
            await asyncio.sleep(0.1)
            far = next(channel for channel in link.server.channels if channel.peer_id != CLIENT.peer_id)
            far._stream.outgoing.bytes = 1 << 30  # as when nobody reads at the other end
            connection = wire.Connection(wire.Role.DIALLER, "raw", 1 << 16)
            connection.hello()
            for _ in range(12):
                request = connection.send(connection.new_stream(), forward(1 << 18))
                stream.write([part for frame in request for part in frame])
                await asyncio.sleep(0.1)
            assert raw.lost is not None
            assert "made us hold" in str(await far.wait_closed())
            assert (await link.channel.request(forward())).load == LOAD
            assert link.server._held_bytes == 0

    run_virtual(main())


def test_caps_on_channels_in_all_and_per_address():
    async def main():
        hub = MemoryNetwork()
        worker, client = hub.node(WORKER.peer_id), hub.node(CLIENT.peer_id)
        config = ChannelConfig(max_channels_per_address=2, max_channels=3)
        closed = []
        async with ChannelServer(worker, "", 0, echo, config, Trace(), on_close=closed.append) as server:
            address = [worker.address(server.port)]
            first, _ = [await dial(client, address, WORKER.peer_id, config) for _ in range(2)]
            with pytest.raises(e.PeerLost, match="reset"):
                await dial(client, address, WORKER.peer_id, config)
            others = [hub.node(type(CLIENT).from_seed(bytes([n]) * 32).peer_id) for n in range(2)]
            await dial(others[0], address, WORKER.peer_id, config)
            with pytest.raises(e.PeerLost):
                await dial(others[1], address, WORKER.peer_id, config)
            await first.aclose()
            await asyncio.sleep(0.1)
            assert len(closed) == 1
            await dial(client, address, WORKER.peer_id, config)
            assert repr(server) == f"ChannelServer(port={server.port}, channels=3, held=0)"
        assert len(closed) == 4

    run_virtual(main())


def test_a_server_that_stops_sends_what_it_owes_and_cancels_the_rest():
    ended = []

    async def handler(message, exchange):
        try:
            if message.step == 1:
                await asyncio.Event().wait()
            return await echo(message, exchange)
        finally:
            ended.append(message.step)

    async def main():
        async with memory_link(handler) as link:
            stuck = asyncio.create_task(link.channel.request(forward(step=1)))
            await link.channel.request(forward(step=2))
            await link.server.stop_listening()
            with pytest.raises(e.PeerLost):
                await dial(
                    link.hub.node(CLIENT.peer_id),
                    [link.hub.node(WORKER.peer_id).address(link.server.port)],
                    WORKER.peer_id,
                    ChannelConfig(),
                )
            await link.far.aclose()
            with pytest.raises(e.PeerLost):
                await stuck
        assert ended == [2, 1]

    run_virtual(main())
