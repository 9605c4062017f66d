"""What strangers can do to a server, and what they cannot."""

import asyncio

import msgpack
import pytest
from support.clock import run_virtual
from support.links import CLIENT, LOAD, WORKER, echo, forward, memory_link

from swarm import errors as e
from swarm.config import ChannelConfig
from swarm.trace import Trace
from swarm.transport.channels import sender
from swarm.transport.channels.dial import dial
from swarm.transport.channels.responses import REQUEST_BYTES
from swarm.transport.channels.server import ChannelServer
from swarm.transport.in_process import MemoryNetwork
from swarm.transport.memory_trim import MemoryTrim
from swarm.wire import connection as wire
from swarm.wire.messages import PROTOCOL_VERSION


async def never(message, exchange):
    await asyncio.Event().wait()


def hello_of(version: int) -> bytes:
    return wire.frames.build(1, 0, msgpack.packb([version, "other"]), memoryview(b""), 1024)[0][0]


def test_another_version_is_named_to_whoever_dials():
    async def main():
        hub = MemoryNetwork()
        node = hub.node(WORKER.peer_id)
        listening = await node.listen("0.0.0.0", 0, lambda stream: stream.write([hello_of(9)]))
        with pytest.raises(e.VersionMismatch, match=f"speaks version 9 of the protocol, we speak {PROTOCOL_VERSION}"):
            await dial(hub.node(CLIENT.peer_id), [node.address(listening.port)], WORKER.peer_id, ChannelConfig())

    run_virtual(main())


def test_a_peer_of_another_version_is_told_ours_and_let_go():
    async def main():
        async with memory_link() as link:
            stream, raw = await raw_stream(link, greet=False)
            stream.write([hello_of(9)])
            await asyncio.sleep(1)
            assert bytes((0x93, PROTOCOL_VERSION)) + b"\xa5swarm" in raw.heard
            assert raw.lost == "it closed the connection"
            assert any("speaks version 9" in event.details.get("reason", "") for event in link.events)
            assert not link.channel.closed

    run_virtual(main())


def test_memory_that_was_held_goes_back_to_the_system_once():
    returns = []

    async def main():
        server = ChannelServer(MemoryNetwork().node(WORKER.peer_id), "0.0.0.0", 0, echo, ChannelConfig(), Trace())
        server._memory_trim = MemoryTrim(lambda: returns.append(1))
        async with server, memory_link() as link:
            for change in (1 << 20, -(1 << 20)) * 100:
                server._held(link.far, change)
            await asyncio.sleep(10)
            assert returns == []
            for change in (*[1 << 20] * 40, *[-(1 << 20)] * 40):
                server._held(link.far, change)
            await asyncio.sleep(10)
            assert returns == [1]

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
            assert link.server._held_bytes == (1 << 20) + REQUEST_BYTES
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


async def no_room(network, address, config):
    with pytest.raises(e.PeerLost):
        await dial(network, address, WORKER.peer_id, config)


def test_caps_on_channels_in_all_and_per_peer():
    async def main():
        hub = MemoryNetwork()
        worker, client = hub.node(WORKER.peer_id), hub.node(CLIENT.peer_id)
        config = ChannelConfig(max_channels_per_peer=2, max_channels=3, block_share=1.0)
        closed = []
        async with ChannelServer(worker, "", 0, echo, config, Trace(), on_close=closed.append) as server:
            address = [worker.address(server.port)]
            first, _ = [await dial(client, address, WORKER.peer_id, config) for _ in range(2)]
            await no_room(client, address, config)
            others = [hub.node(type(CLIENT).from_seed(bytes([n]) * 32).peer_id) for n in range(2)]
            await dial(others[0], address, WORKER.peer_id, config)
            await no_room(others[1], address, config)
            await first.aclose()
            await asyncio.sleep(0.1)
            assert len(closed) == 1
            await dial(client, address, WORKER.peer_id, config)
            assert repr(server) == f"ChannelServer(port={server.port}, channels=3, held=0)"
        assert len(closed) == 4

    run_virtual(main())


def stranger(hub, number: int, host: str):
    """A network of a peer of its own, at this address."""
    node = hub.node(type(CLIENT).from_seed(bytes([number]) * 32).peer_id)
    node.host = host
    return node


def test_a_crowd_of_keys_from_one_address_block_leaves_room_for_others():
    async def main():
        hub = MemoryNetwork()
        worker, config = hub.node(WORKER.peer_id), ChannelConfig(max_channels=16)
        async with ChannelServer(worker, "", 0, echo, config, Trace()) as server:
            address = [worker.address(server.port)]
            for number in range(14):
                await dial(stranger(hub, number, f"192.0.2.{number}"), address, WORKER.peer_id, config)
            await no_room(stranger(hub, 20, "192.0.2.20"), address, config)
            channel = await dial(stranger(hub, 21, "198.51.100.1"), address, WORKER.peer_id, config)
            assert (await channel.request(forward())).load == LOAD

    run_virtual(main())


def test_who_drips_is_cut_off_and_who_is_slow_is_not():
    async def main():
        async with memory_link() as link:
            stream, raw = await raw_stream(link)
            connection = wire.Connection(wire.Role.DIALLER, "raw", 1 << 16)
            connection.hello()
            slow = b"".join(b"".join(frame) for frame in connection.send(connection.new_stream(), forward(1 << 17)))
            for start in range(0, len(slow), 5000):
                stream.write([slow[start : start + 5000]])
                await asyncio.sleep(1)
            assert raw.lost is None
            assert raw.heard
            for _ in range(30):
                stream.write([b"\x10"])
                await asyncio.sleep(1)
            assert raw.lost is not None
            assert any("bytes of a frame came within 11 s" in str(event.details.get("reason")) for event in link.events)
            assert len(link.server.channels) == 1

    run_virtual(main())


def test_unfinished_messages_are_bounded_and_the_block_that_has_most_pays():
    async def main():
        config = ChannelConfig(max_unfinished_bytes=1 << 20)
        async with memory_link(config=config) as link:
            honest, heard = await raw_stream(link)
            await asyncio.sleep(0.1)

            def begun(size: int) -> list[bytes]:
                connection = wire.Connection(wire.Role.DIALLER, "raw", 1 << 16)
                connection.hello()
                whole = b"".join(b"".join(frame) for frame in connection.send(1, forward(size)))
                return [whole[:-1]]

            honest.write(begun(300 << 10))
            hogs = []
            for number in range(8):
                node = stranger(link.hub, 100 + number, f"192.0.2.{number}")
                stream = await node.connect(link.hub.node(WORKER.peer_id).address(link.server.port), WORKER.peer_id)
                raw = Raw()
                stream.start(raw)
                connection = wire.Connection(wire.Role.DIALLER, "raw", 1024)
                stream.write([part for frame in connection.hello() for part in frame])
                await asyncio.sleep(0.1)
                stream.write(begun(200 << 10))
                await asyncio.sleep(0.1)
                hogs.append(raw)
            assert sum(raw.lost is not None for raw in hogs) == 5
            assert link.server._unfinished_bytes <= 1 << 20
            assert heard.lost is None
            assert len(link.server.channels) == 5

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
