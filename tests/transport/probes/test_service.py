import asyncio
import os
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.errors import PortInUse
from swarm.records import Address
from swarm.transport.probes import datagrams
from swarm.transport.probes.datagrams import Datagrams
from swarm.transport.probes.service import ProbeServer, measure_round_trips


def at(port: int, host: str = "127.0.0.1") -> Address:
    return Address.of(host, 1, probe=port)


async def until(condition) -> None:
    """Let the loop run until something is true."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def test_candidates_are_measured_and_the_silent_are_absent():
    async def main():
        async with ProbeServer("127.0.0.1", 0) as one, ProbeServer("", 0) as two, Datagrams("127.0.0.1", 0) as silent:
            addresses = [at(one.port), at(two.port), at(two.port, "::1"), at(silent.port), at(0)]
            found = await measure_round_trips(addresses, 3, 0.3)
            assert list(found) == addresses[:3]
            assert all(0 < seconds < 0.3 for seconds in found.values())
            assert silent.queue.qsize() == 3  # asked again, and no more
            assert await measure_round_trips([], 3, 60.0) == {}
            assert one.answered == 3
            began = asyncio.get_running_loop().time()
            assert len(await measure_round_trips(addresses[:2], 3, 60.0)) == 2
            assert asyncio.get_running_loop().time() - began < 10

    asyncio.run(main())


@given(st.lists(st.binary(min_size=1, max_size=1200), min_size=1, max_size=20))
@settings(max_examples=10)
def test_random_datagrams_are_ignored(junk):
    async def main():
        async with ProbeServer("127.0.0.1", 0) as server, Datagrams("127.0.0.1", 0) as stranger:
            for raw in junk:
                await stranger.send(raw, ("127.0.0.1", server.port))
            assert await measure_round_trips([at(server.port)], 2, 10.0)
            await until(lambda: server.ignored == len(junk))
            assert stranger.queue.empty()

    asyncio.run(main())


def test_the_queue_is_bounded(monkeypatch):
    monkeypatch.setattr(datagrams, "MAX_QUEUED", 4)

    async def main():
        async with Datagrams("127.0.0.1", 0) as reader, Datagrams("127.0.0.1", 0) as flood:
            for _ in range(10):
                await flood.send(b"x", ("127.0.0.1", reader.port))
            await until(lambda: reader.queue.qsize() + reader.dropped == 10)
            assert repr(reader) == f"Datagrams(port={reader.port}, queued=4, dropped=6, failed=0)"

    asyncio.run(main())


def test_a_bad_address_or_a_failed_send_harms_nobody():
    async def main():
        async with Datagrams("127.0.0.1", 0) as narrow, Datagrams("", 0) as wide:
            for sender in (narrow, wide):
                for place in [("127.0.0.1", 0), ("127.0.0.1", 70000), ("localhost", 5), ("", 5), ("::1%lo", 1 << 20)]:
                    assert not await sender.send(b"x", place)
            assert not await narrow.send(b"x", ("::1", 5))
            assert await narrow.send(b"x", ("255.255.255.255", 5))  # the system refuses it
            assert await narrow.send(os.urandom(70_000), ("127.0.0.1", 5))  # too long for a datagram
            assert narrow.failed == 2
            assert await narrow.send(b"still here", ("127.0.0.1", wide.port))
            assert await wide.receive() == (b"still here", ("127.0.0.1", narrow.port))

    asyncio.run(main())


def test_a_port_that_answers_with_an_error_ends_nothing():
    """An ICMP "port unreachable" must not surface in whoever reads next."""

    async def main():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
            closed.bind(("127.0.0.1", 0))
            port = closed.getsockname()[1]
        async with ProbeServer("127.0.0.1", 0) as server:
            found = await measure_round_trips([at(port), at(server.port)], 2, 0.3)
            assert list(found) == [at(server.port)]

    asyncio.run(main())


def test_a_taken_port_is_named_and_close_ends_receive():
    async def main():
        async with ProbeServer("127.0.0.1", 0) as server:
            with pytest.raises(PortInUse, match=f"UDP port {server.port}"):
                async with ProbeServer("127.0.0.1", server.port):
                    pass
            assert repr(server) == f"ProbeServer(port={server.port}, answered=0, ignored=0)"
        async with Datagrams("127.0.0.1", 0) as reader:
            reading = asyncio.create_task(reader.receive())
            await asyncio.sleep(0)
        assert await reading is None
        assert await reader.receive() is None
        assert not await reader.send(b"x", ("127.0.0.1", 5))

    asyncio.run(main())
