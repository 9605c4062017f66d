"""The switch, with sockets in the place of network devices: no root is needed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from random import Random

import pytest

from chaos.network.switch import PACKET_BYTES, Switch
from chaos.network.weather import Lanes

ONE, TWO, NOBODY = "10.77.1.1", "10.77.2.1", "10.77.9.1"


def packet(source: str, to: str, body: bytes) -> bytes:
    """As far as a switch looks at it."""
    header = bytes([0x45]) + bytes(11) + socket.inet_aton(source) + socket.inet_aton(to)
    return header + body


class Host:
    """A kernel's side of a device."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.lanes = Lanes(Random(1))
        self.ours, self.device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ours.setblocking(False)
        self.device.setblocking(False)

    def send(self, to: str, body: bytes) -> None:
        self.ours.send(packet(self.address, to, body))

    async def body(self) -> bytes:
        """Of the next packet."""
        return (await asyncio.get_running_loop().sock_recv(self.ours, PACKET_BYTES))[20:]

    def close(self) -> None:
        self.ours.close()
        self.device.close()


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    made = Host(ONE), Host(TWO)
    yield made
    for host in made:
        host.close()


@contextlib.asynccontextmanager
async def joined(*hosts: Host) -> AsyncIterator[Switch]:
    switch = Switch()
    for number, host in enumerate(hosts):
        switch.attach(f"host-{number}", host.address, host.device.fileno(), host.lanes)
    try:
        async with asyncio.timeout(20):
            yield switch
    finally:
        switch.close()


def test_packets_reach_whom_they_are_for_and_nobody_else(hosts: tuple[Host, Host]) -> None:
    one, two = hosts

    async def main() -> None:
        async with joined(one, two) as switch:
            one.ours.send(b"")
            one.ours.send(b"\x60" + bytes(39))  # version 6
            one.send(NOBODY, b"stray")
            one.send(TWO, b"hello")
            assert await two.body() == b"hello"
            two.send(ONE, b"yes")
            assert await one.body() == b"yes"
            assert switch.counters["forwarded"] == 2
            assert switch.counters["stray"] >= 2
        one.send(TWO, b"late")  # nobody reads it any more

    asyncio.run(main())


def test_a_pair_is_cut_apart_one_way_and_joined_again(hosts: tuple[Host, Host]) -> None:
    one, two = hosts

    async def main() -> None:
        async with joined(one, two) as switch:
            switch.cut("host-0", "host-1")
            one.send(TWO, b"unheard")
            two.send(ONE, b"heard")
            assert await one.body() == b"heard"
            switch.join("host-0", "host-1")
            one.send(TWO, b"again")
            assert await two.body() == b"again"
            assert switch.counters["cut"] == 1

    asyncio.run(main())


def test_loss_and_blackholes_strike_every_packet(hosts: tuple[Host, Host]) -> None:
    one, two = hosts

    async def main() -> None:
        async with joined(one, two) as switch:
            two.lanes.change("to", blackhole=True)
            one.send(TWO, b"gone")
            two.send(ONE, b"here")
            assert await one.body() == b"here"
            two.lanes.calm("blackhole")
            one.lanes.change("back", loss=0.5)
            for number in range(100):
                one.send(TWO, bytes([number]))
                if number % 20 == 0:
                    await asyncio.sleep(0)
            one.lanes.calm("loss")
            one.send(TWO, b"end")
            got = []
            while (body := await two.body()) != b"end":
                got.append(body[0])
            assert got == sorted(got)
            assert 25 < len(got) < 75
            assert switch.counters["lost"] == 101 - len(got)

    asyncio.run(main())


def test_jitter_delays_and_does_not_reorder(hosts: tuple[Host, Host]) -> None:
    one, two = hosts

    async def main() -> None:
        async with joined(one, two):
            loop = asyncio.get_running_loop()
            one.lanes.change(latency=0.02)
            two.lanes.change(latency=0.02, jitter=0.02)
            began = loop.time()
            for number in range(50):
                one.send(TWO, bytes([number]))
            assert [(await two.body())[0] for _ in range(50)] == list(range(50))
            assert loop.time() - began >= 0.02

    asyncio.run(main())


def test_a_narrow_link_lets_so_many_bytes_pass(hosts: tuple[Host, Host]) -> None:
    one, two = hosts

    async def main() -> None:
        async with joined(one, two):
            loop = asyncio.get_running_loop()
            two.lanes.change(bandwidth=20_000.0)
            began = loop.time()
            for _ in range(4):
                one.send(TWO, bytes(980))
            for _ in range(4):
                await two.body()
            assert loop.time() - began >= 0.19

    asyncio.run(main())


def test_what_arrives_twice_or_out_of_order(hosts: tuple[Host, Host]) -> None:
    one, two = hosts

    async def main() -> None:
        async with joined(one, two):
            two.lanes.change(duplicates=1.0)
            one.send(TWO, b"a")
            assert [await two.body(), await two.body()] == [b"a", b"a"]
            two.lanes.calm("duplicates")
            two.lanes.change(reorders=0.5)
            for number in range(40):
                one.send(TWO, bytes([number]))
            got = [(await two.body())[0] for _ in range(40)]
            assert got != sorted(got)
            assert sorted(got) == list(range(40))

    asyncio.run(main())
