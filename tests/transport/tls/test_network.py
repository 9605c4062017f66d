import asyncio
import contextlib
import gc
import os
import random
import signal
import ssl
import sys
import weakref
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from support.disk import full_disk
from support.links import CLIENT, LOAD, WORKER, echo, forward, local, tls_link

from swarm import errors as e
from swarm.config import ChannelConfig
from swarm.identity import Identity
from swarm.trace import Trace
from swarm.transport.channels.dial import dial
from swarm.transport.channels.server import ChannelServer
from swarm.transport.tls import certificates
from swarm.transport.tls.network import LEAST_HANDSHAKES, TlsNetwork, within
from swarm.wire.messages import PROTOCOL_VERSION

CONFIG = ChannelConfig()
NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "stranger")])
TESTS = Path(__file__).parents[2]


@contextlib.asynccontextmanager
async def serving(events=None, config=CONFIG):
    """A worker's server; its trace goes to `events`."""
    trace = Trace() if events is None else Trace(events.append)
    network = TlsNetwork(WORKER, trace, config=config)
    async with ChannelServer(network, "127.0.0.1", 0, echo, config, trace) as server:
        yield server


def certificate(key, name, signer=certificates._NULL_KEY, algorithm=None) -> bytes:
    """A leaf that somebody made up, with its key."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(certificates._NULL_NAME)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(certificates._FROM)
        .not_valid_after(certificates._UNTIL)
    )
    signed = builder.sign(signer, algorithm)
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return secret + signed.public_bytes(Encoding.PEM)


def stranger(tmp_path, chain: bytes | None, alpn=("swarm",), versions=None) -> ssl.SSLContext:
    """A dialler's context that checks nothing and shows what it likes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(list(alpn))
    if versions is not None:
        context.maximum_version = versions
    if chain is not None:
        path = tmp_path / "chain.pem"
        path.write_bytes(chain)
        context.load_cert_chain(path)
    return context


async def knock(port: int, context: ssl.SSLContext | None, say: bytes = b"") -> bytes:
    """What the server says until it hangs up; b"" when it refuses the handshake."""
    writer = None
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.write(say)
        async with asyncio.timeout(10):
            return await reader.read()
    except OSError:
        return b""
    finally:
        if writer is not None:
            writer.transport.abort()


def failures(events) -> str:
    return "; ".join(event.details["reason"] for event in events if event.phase == "failed")


def test_rows_travel_and_both_ends_know_each_other():
    async def main():
        async with tls_link() as link:
            for size in (64, 5000, 1 << 20):
                reply = await link.channel.request(forward(size, fill=7))
                assert reply.tensor == forward(size, fill=7).tensor
            assert link.channel.peer_id == WORKER.peer_id
            assert link.far.peer_id == CLIENT.peer_id
            assert link.far.host == "127.0.0.1"
            assert 0 < link.channel.round_trip < 5
            replies = await asyncio.gather(*(link.channel.request(forward(200_000, step)) for step in range(20)))
            assert [reply.step for reply in replies] == list(range(20))

    asyncio.run(main())


def test_a_connection_that_ended_frees_its_buffers_without_waiting_for_the_collector():
    async def main():
        async with tls_link() as link:
            buffers = [weakref.ref(end._stream._secure._ssl_protocol) for end in (link.channel, link.far)]
            link.channel.abort("of a test")
            await link.far.wait_closed()
            await asyncio.sleep(0.1)
            assert [each() for each in buffers] == [None, None]

    gc.disable()
    try:
        asyncio.run(main())
    finally:
        gc.enable()


def test_the_wrong_key_is_refused_by_whoever_dials():
    async def main():
        async with serving() as server:
            with pytest.raises(e.PeerLost, match=f"proves to be peer {WORKER.peer_id.short}, not"):
                await dial(TlsNetwork(CLIENT), [local(server.port)], Identity.generate().peer_id, CONFIG)

    asyncio.run(main())


def test_a_copied_certificate_without_its_key_is_worth_nothing(tmp_path):
    """TLS itself refuses: the leaf of another with a key of one's own does not even load; nor is it accepted."""
    leaf = certificate(WORKER.key, NAME).split(b"-----END PRIVATE KEY-----\n")[1]
    mine = CLIENT.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(ssl.SSLError, match="KEY_VALUES_MISMATCH"):
        stranger(tmp_path, mine + leaf)


@pytest.mark.parametrize(
    ("shown", "says"),
    [
        ("nothing", "peer did not return a certificate"),
        ("self-signed", "not issued as peers' are"),
        ("the null authority", "everybody has"),
        ("an EC key", "no Ed25519 key"),
    ],
)
def test_who_shows_no_proper_leaf_is_refused(tmp_path, shown, says):
    mine = Ed25519PrivateKey.generate()
    chain = {
        "nothing": None,
        "self-signed": certificate(mine, NAME, signer=mine),
        "the null authority": certificate(certificates._NULL_KEY, NAME),
        "an EC key": certificate(ec.generate_private_key(ec.SECP256R1()), NAME),
    }[shown]

    async def main():
        events = []
        async with serving(events) as server:
            await knock(server.port, stranger(tmp_path, chain))
            assert says in failures(events)
            assert not server.channels

    asyncio.run(main())


def test_another_application_and_older_tls_are_refused(tmp_path):
    leaf = certificate(CLIENT.key, NAME)

    async def main():
        events = []
        async with serving(events) as server:
            await knock(server.port, stranger(tmp_path, leaf, versions=ssl.TLSVersion.TLSv1_2))
            assert "unsupported protocol" in failures(events)
            await knock(server.port, stranger(tmp_path, leaf, alpn=("h2",)))
            assert "another application protocol" in failures(events)

    asyncio.run(main())


@pytest.mark.parametrize("junk", [b"GET / HTTP/1.1\r\n\r\n", bytes(400), b"\x16\x03\x01\x00\x40" + b"\xff" * 999])
def test_random_bytes_before_tls_disturb_nobody(junk):
    async def main():
        events = []
        async with serving(events) as server:
            channel = await dial(TlsNetwork(CLIENT), [local(server.port)], WORKER.peer_id, CONFIG)
            await knock(server.port, None, junk)
            assert "the TLS handshake failed" in failures(events)
            assert (await channel.request(forward())).load == LOAD
            assert len(server.channels) == 1
            await channel.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("junk", [bytes(range(99, 199)), b"\0\0\0\x80\x06\0\x0a\0" + bytes(8)])
def test_random_bytes_after_tls_disturb_nobody(tmp_path, junk):
    async def main():
        events = []
        async with serving(events) as server:
            channel = await dial(TlsNetwork(CLIENT), [local(server.port)], WORKER.peer_id, CONFIG)
            said = await knock(server.port, stranger(tmp_path, certificate(CLIENT.key, NAME)), junk)
            assert said[16:].startswith(bytes((0x93, PROTOCOL_VERSION)) + b"\xa5swarm")
            assert (await channel.request(forward())).load == LOAD
            assert len(server.channels) == 1
            await channel.aclose()

    asyncio.run(main())


def test_junk_leaves_nothing_behind(tmp_path):
    async def main():
        events = []
        async with serving(events) as server:
            context = stranger(tmp_path, certificate(CLIENT.key, NAME))
            tasks = len(asyncio.all_tasks())
            for number in range(20):
                junk = random.Random(number).randbytes(300)
                await asyncio.gather(knock(server.port, None, junk), knock(server.port, context, junk))
                assert failures(events).count("handshake failed") == number + 1
            async with asyncio.timeout(10):
                while server.channels or len(asyncio.all_tasks()) > tasks:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
            assert len(server._listener._handshakes) == 0
            assert server._held_bytes == 0

    asyncio.run(main())


def test_a_handshake_has_a_deadline_and_a_cap():
    config = ChannelConfig(handshake_seconds=0.3, max_handshakes=2)

    async def main():
        events = []
        async with serving(events, config) as server:
            assert await asyncio.gather(*(knock(server.port, None) for _ in range(4))) == [b""] * 4
            assert failures(events).count("2 handshakes are unfinished") == 2
            assert failures(events).count("took longer than 0.3 s") == 2
            channel = await dial(TlsNetwork(CLIENT), [local(server.port)], WORKER.peer_id, CONFIG)
            await channel.aclose()

    asyncio.run(main())


def test_a_crowd_of_half_open_connections_shuts_nobody_out():
    config = ChannelConfig(max_handshakes=20)

    async def main():
        events = []
        async with serving(events, config) as server:
            crowd = [
                await asyncio.open_connection("127.0.0.1", server.port, local_addr=("127.0.2.9", 0)) for _ in range(60)
            ]
            channel = await dial(TlsNetwork(CLIENT), [local(server.port)], WORKER.peer_id, CONFIG)
            assert (await channel.request(forward())).load == LOAD
            assert failures(events).count("20 handshakes are unfinished") == 40
            assert failures(events).count("it made room for others") == 1
            await channel.aclose()
            for _, writer in crowd:
                writer.close()

    asyncio.run(main())


def test_what_a_block_may_send_before_it_proves_a_key_is_bounded():
    config = ChannelConfig(early_bytes_per_second=1, early_burst_bytes=8 << 10)
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"  # of a ClientHello that never ends

    async def main():
        events = []
        async with serving(events, config) as server:

            async def begin(size: int) -> bytes:
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port, local_addr=("127.0.2.9", 0))
                writer.write(hello.ljust(size, b"\0"))
                with contextlib.suppress(ConnectionError):
                    await asyncio.wait_for(reader.read(), 0.2)
                writer.close()

            await begin(20 << 10)
            assert "20480 bytes came and no key was proved" in failures(events)
            await begin(1)
            assert "1 bytes a second of its block before proving a key" in failures(events)
            channel = await dial(TlsNetwork(CLIENT), [local(server.port)], WORKER.peer_id, CONFIG)
            await channel.aclose()

    asyncio.run(main())


def test_a_server_that_is_no_swarm_peer_is_named():
    async def main():
        async def hang_up(reader, writer):
            writer.write(b"220 mail.example ESMTP\r\n")
            writer.close()

        other = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        port = other.sockets[0].getsockname()[1]
        with pytest.raises(e.PeerLost, match=f"127.0.0.1:{port} proves no identity"):
            await dial(TlsNetwork(CLIENT), [local(port)], WORKER.peer_id, CONFIG)
        other.close()
        with pytest.raises(e.PeerLost, match=f"127.0.0.1:{port} cannot be connected to"):
            await dial(TlsNetwork(CLIENT), [local(port)], WORKER.peer_id, CONFIG)

    asyncio.run(main())


def test_a_taken_port_and_a_bad_host_are_named():
    async def main():
        async with serving() as server:
            with pytest.raises(e.PortInUse, match=f"port {server.port}: choose another with --port"):
                await TlsNetwork(CLIENT).listen("127.0.0.1", server.port, lambda stream: None)
        with pytest.raises(e.UsageFault, match=r"cannot listen on 203\.0\.113\.1"):
            await TlsNetwork(CLIENT).listen("203.0.113.1", 0, lambda stream: None)

    asyncio.run(main())


def test_one_socket_takes_both_address_families():
    async def main():
        async with ChannelServer(TlsNetwork(WORKER), "", 0, echo, CONFIG, Trace()) as server:
            channel = await dial(TlsNetwork(CLIENT), [local(server.port)], WORKER.peer_id, CONFIG)
            (far,) = server.channels
            assert far.host == "127.0.0.1"
            await channel.aclose()

    asyncio.run(main())


@contextlib.asynccontextmanager
async def process():
    """A worker in a process of its own, and a channel to it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "support.echo_peer", stdout=asyncio.subprocess.PIPE, env=environment
    )
    try:
        port = int(await worker.stdout.readline())
        channel = await dial(TlsNetwork(CLIENT), [local(port)], WORKER.peer_id, CONFIG)
        yield worker, channel
        await channel.aclose()
    finally:
        with contextlib.suppress(ProcessLookupError):
            worker.kill()
        await worker.wait()


def test_a_killed_process_is_lost_at_once():
    async def main():
        async with process() as (worker, channel):
            asked = [asyncio.create_task(channel.request(forward(step=1))) for _ in range(3)]
            assert (await channel.request(forward())).load == LOAD
            began = asyncio.get_running_loop().time()
            worker.kill()
            faults = await asyncio.gather(*asked, return_exceptions=True)
            assert [type(fault) for fault in faults] == [e.PeerLost] * 3
            assert asyncio.get_running_loop().time() - began < 1

    asyncio.run(main())


def test_a_stopped_process_is_stalled_within_five_seconds():
    async def main():
        async with process() as (worker, channel):
            asked = asyncio.create_task(channel.request(forward(step=1)))
            assert (await channel.request(forward())).load == LOAD
            began = asyncio.get_running_loop().time()
            worker.send_signal(signal.SIGSTOP)
            with pytest.raises(e.PeerStalled):
                await asked
            assert asyncio.get_running_loop().time() - began < 5

    asyncio.run(main())


def test_a_full_disk_is_no_hindrance():
    """Nor a read-only one: keys are not written anywhere."""

    async def main():
        with full_disk():
            network = TlsNetwork(WORKER, Trace(), config=CONFIG)
        async with ChannelServer(network, "127.0.0.1", 0, echo, CONFIG, Trace()) as server:
            with full_disk():
                client = TlsNetwork(CLIENT)
            channel = await dial(client, (local(server.port),), WORKER.peer_id, CONFIG)
            await channel.aclose()

    asyncio.run(main())


@pytest.mark.parametrize(("files", "strangers"), [(1 << 16, CONFIG.max_handshakes), (40, 20), (-3, LEAST_HANDSHAKES)])
def test_strangers_take_half_of_the_files_that_are_left_at_most(files, strangers):
    assert within(CONFIG, files).max_handshakes == strangers
