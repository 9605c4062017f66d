"""The directory over real sockets: address families, names, ports, and a flood of random bytes."""

import asyncio
import random
import resource
import socket
import time
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.announcements import MODEL, announcement, identity

from swarm.discovery import Directory, endpoint
from swarm.discovery.packets import Method
from swarm.errors import NoSwarm, PortInUse, UsageFault

FLOOD = 100_000
BURST = 50  # datagrams sent before the node gets its turn
GROWTH = 32 << 20  # bytes of memory that a flood may leave behind


def has_v6():
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_v6 = pytest.mark.skipif(not has_v6(), reason="this machine has no IPv6 loopback")


def start(number, **options):
    return Directory(identity(number), **options)


@pytest.mark.parametrize(
    ("host", "bootstrap"),
    [
        ("127.0.0.1", "127.0.0.1"),
        pytest.param("::1", "::1", marks=needs_v6),
        pytest.param("::", "::1", marks=needs_v6),
        ("::", "127.0.0.1"),
        ("::", "localhost"),
    ],
)
def test_join_announce_lookup(host, bootstrap):
    async def main():
        async with start(1, host=host) as first:
            names = [(bootstrap, first.port)]
            async with (
                start(2, host=host, bootstrap=names) as worker,
                start(3, bootstrap=names, passive=True) as client,
            ):
                await worker.join()
                await client.join()
                mine = announcement(worker.identity, now=time.time())
                assert await worker.announce(mine) == 2
                assert await client.lookup(MODEL) == [mine]
                assert client.observed_host() in ("127.0.0.1", "::1")

    asyncio.run(main())


@needs_v6
def test_v4_and_v6_peers_meet_at_a_dual_stack_node():
    async def main():
        async with start(1, host="::") as first:
            four = start(2, host="127.0.0.1", bootstrap=[("127.0.0.1", first.port)])
            six = start(3, host="::1", bootstrap=[("::1", first.port)])
            async with four, six:
                await four.join()
                await six.join()
                for worker in (four, six):
                    await worker.announce(announcement(worker.identity, now=time.time()))
                assert len(await four.lookup(MODEL)) == len(await six.lookup(MODEL)) == 2
                assert (four.observed_host(), six.observed_host()) == ("127.0.0.1", "::1")

    asyncio.run(main())


@needs_v6
def test_a_socket_knows_which_addresses_it_has_no_way_to():
    async def main():
        async with start(1, host="127.0.0.1") as four, start(2, host="::1") as six, start(3) as both:
            sockets = [node._server.protocol._socket for node in (four, six, both)]
            assert [one.reaches("127.0.0.1") for one in sockets] == [True, False, True]
            assert [one.reaches("::1") for one in sockets] == [False, True, True]
            assert not sockets[0].send(b"x", ("::1", 9))
            assert not sockets[1].send(b"x", ("127.0.0.1", 9))
            began = asyncio.get_running_loop().time()
            assert await four._server.protocol.call(("::1", 9), b"", Method.PING) is None
            assert asyncio.get_running_loop().time() - began < 0.05

    asyncio.run(main())


def test_without_v6_any_host_means_v4(monkeypatch):
    def no_v6(family, *rest, real=socket.socket):
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return real(family, *rest)

    async def main():
        monkeypatch.setattr(endpoint.socket, "socket", no_v6)
        async with start(1) as first, start(2, bootstrap=[("127.0.0.1", first.port), ("::1", 1)]) as worker:
            await worker.join()
            assert worker.contacts == 1

    asyncio.run(main())


def test_a_port_in_use_and_a_foreign_host_are_named():
    async def main():
        async with start(1, host="127.0.0.1") as first:
            with pytest.raises(PortInUse, match=f"UDP port {first.port}.*--port"):
                await start(2, host="127.0.0.1", port=first.port).__aenter__()
            with pytest.raises(UsageFault, match=r"192\.0\.2\.1"):
                await start(2, host="192.0.2.1").__aenter__()

    asyncio.run(main())


def test_a_name_that_does_not_exist_is_named(monkeypatch):
    async def main():
        async def getaddrinfo(host, port, **_):
            raise socket.gaierror(-2, "Name or service not known")

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        async with start(1, host="127.0.0.1", bootstrap=[("nowhere.invalid", 7700)]) as lost:
            with pytest.raises(NoSwarm, match=r"nowhere\.invalid port 7700 \(no such host\)"):
                await lost.join()

    asyncio.run(main())


def garbage(rng, real):
    """Noise of any length, or a real datagram with a few bytes changed."""
    if rng.random() < 0.7:
        return rng.randbytes(rng.choice((1, 21, 60, 412, 500, 1232, 1400)))
    changed = bytearray(rng.choice(real))
    for _ in range(rng.choice((0, 1, 2, 20))):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def size_of(directory):
    """Everything in a node that traffic could make larger."""
    protocol = directory._server.protocol
    memories = (protocol._tokens, protocol._votes, protocol._errands, protocol._tasks, protocol._pending)
    verifier = directory._server.storage.verifier
    kept = (directory._server.storage._buckets, verifier._verified, verifier._highest, protocol.counters)
    return sum(map(len, (*memories, *kept))) + directory.contacts


def test_a_flood_of_random_bytes_neither_crashes_nor_grows_a_node(monkeypatch):
    async def main():
        rng = random.Random(11)
        real = []
        async with start(1, host="127.0.0.1") as node:
            client = start(2, host="127.0.0.1", bootstrap=[("127.0.0.1", node.port)], passive=True)
            async with client, start(3, host="127.0.0.1", bootstrap=[("127.0.0.1", node.port)]) as worker:
                send = endpoint.UdpSocket.send
                monkeypatch.setattr(
                    endpoint.UdpSocket, "send", lambda self, data, to: (real.append(data), send(self, data, to))[1]
                )
                await worker.join()
                await client.join()
                await worker.announce(announcement(worker.identity, now=time.time()))
                await client.lookup(MODEL)
                monkeypatch.setattr(endpoint.UdpSocket, "send", send)
                arrived, caught_up, source = Counter(), asyncio.Event(), 0
                received = endpoint.UdpSocket.datagram_received

                def counted(self, data, addr):
                    received(self, data, addr)
                    arrived[addr[1]] += 1
                    if addr[1] == source and arrived[source] % BURST == 0:
                        caught_up.set()

                monkeypatch.setattr(endpoint.UdpSocket, "datagram_received", counted)
                before = size_of(node) + size_of(client)
                noise = [garbage(rng, real) for _ in range(2000)]
                memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as attacker:
                    attacker.bind(("127.0.0.1", 0))
                    source = attacker.getsockname()[1]
                    for number in range(FLOOD):
                        port = client.port if number % 4 == 0 else node.port
                        attacker.sendto(noise[number % len(noise)], ("127.0.0.1", port))
                        if number % BURST == BURST - 1:
                            await caught_up.wait()
                            caught_up.clear()
                assert arrived[source] == FLOOD
                assert len(await client.lookup(MODEL)) == 1  # it still answers
                assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < GROWTH >> 10
                assert size_of(node) + size_of(client) < before + 50
                assert node.counters["malformed"] > FLOOD // 4
                assert node.counters["crashed"] == client.counters["crashed"] == 0

    asyncio.run(main())


def test_any_datagram_is_survived():
    """One node for all examples, so that what one leaves behind could hurt the next."""
    with asyncio.Runner() as runner:
        node = start(1, host="127.0.0.1")
        runner.run(node.__aenter__())
        protocol = node._server.protocol

        @settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
        @given(st.binary(max_size=1400), st.sampled_from([b"", b"\0" + bytes(20), b"\1" + bytes(20)]))
        def receive(data, head):
            async def arrive():
                protocol.received(head + data, ("127.0.0.1", 9))

            runner.run(arrive())

        receive()
        assert protocol.counters["crashed"] == 0
        assert set(protocol.counters) <= {"malformed", "unasked", "served", "crashed"}
        assert size_of(node) < 10
        runner.run(node.__aexit__(None, None, None))
