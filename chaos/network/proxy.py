"""A userland network: every byte to and from a process passes through here, TCP and UDP, and needs no root.

A process listens on `real` and tells others `public`, where its link listens in its stead. A datagram between two processes
that have links leaves from the sender's public port, so both sides only ever see public ports. Knows nothing of swarm.
"""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from contextlib import AsyncExitStack
from random import Random
from typing import Any

from chaos.network.streams import Pipes
from chaos.network.weather import Lane, Lanes, Way

HOST = "127.0.0.1"
SIDES = 2  # UDP ports of a process: the directory's and the probe's, which is the next one
MAX_GUESTS = 1024  # datagram flows from outside, such as a client's
PORTS = range(20000, 32000)  # below those that the kernel gives to outgoing connections
PORT_TRIES = 200
Endpoint = tuple[str, int]


class Link(Lanes):
    """Between one process and everybody else. `to` and `back` are its weather; `reset` and the rest strike what is open."""

    def __init__(self, proxy: Proxy, name: str) -> None:
        super().__init__(proxy.random)
        self.name = name
        self.host = HOST
        self.public, self.real = proxy.free_ports(), proxy.free_ports()
        self._proxy = proxy
        self.pipes = Pipes((HOST, self.real), self.to, self.back)
        self._stack = AsyncExitStack()
        self.doors: list[Door] = []

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        for side in range(SIDES):
            transport, door = await loop.create_datagram_endpoint(
                lambda side=side: Door(self._proxy, self, side),  # type: ignore[misc]
                (HOST, self.public + side),
            )
            self._stack.callback(transport.close)
            self.doors.append(door)
        await self.pipes.listen(HOST, self.public)
        self._stack.push_async_callback(self.pipes.aclose)

    async def aclose(self) -> None:
        await self._stack.aclose()

    def change(self, *ways: Way, **changes: Any) -> None:
        """Weather by the fields of `Weather`, both ways if none is named."""
        super().change(*ways, **changes)
        self.pipes.weather_changed()

    def command(self, *words: str) -> tuple[str, ...]:
        """What starts the process behind this link: `python` with these words."""
        return words

    def __repr__(self) -> str:
        return f"<link of {self.name}, {self.public} to {self.real}, {self.pipes.count} connections>"


class Proxy:
    """`async with Proxy(seed) as proxy: link = await proxy.link("name")`. Leaving closes every link."""

    def __init__(self, seed: int = 0) -> None:
        self.random = Random(seed)
        self.host = HOST  # of this process
        self.links: list[Link] = []
        self._given: set[int] = set()  # ports, used yet or not
        self._guests: OrderedDict[tuple[Endpoint, Door], Guest] = OrderedDict()

    async def __aenter__(self) -> Proxy:
        return self

    async def __aexit__(self, *exc: object) -> None:
        for guest in self._guests.values():
            guest.close()
        for link in self.links:
            await link.aclose()

    async def link(self, name: str) -> Link:
        link = Link(self, name)
        self.links.append(link)
        await link.open()
        return link

    @property
    def sockets(self) -> int:
        """Open ones."""
        return len(self._guests) + sum(1 + SIDES + 2 * link.pipes.count for link in self.links)

    def free_ports(self) -> int:
        """A port that is free for TCP and UDP, and the next one too. None is given twice."""
        dice = Random()
        for _ in range(PORT_TRIES):
            port = dice.randrange(PORTS.start, PORTS.stop, SIDES)
            free = all(_is_free(kind, port + side) for kind in _KINDS for side in range(SIDES))
            if free and port not in self._given:
                self._given.add(port)
                return port
        raise OSError(f"no free ports between {PORTS.start} and {PORTS.stop}")

    def door_of(self, source: Endpoint) -> Door | None:
        """Where a process' datagrams leave; None for one that has no link."""
        for link in self.links:
            if 0 <= source[1] - link.real < SIDES:
                return link.doors[source[1] - link.real]
        return None

    async def guest(self, source: Endpoint, door: Door) -> Guest:
        """What stands for a source without a link, one socket for each door it knocks at."""
        key = (source, door)
        if key not in self._guests:
            loop = asyncio.get_running_loop()
            _, made = await loop.create_datagram_endpoint(lambda: Guest(source, door), (HOST, 0))
            made = self._guests.setdefault(key, made)
            while len(self._guests) > MAX_GUESTS:
                self._guests.popitem(last=False)[1].close()
        self._guests.move_to_end(key)
        return self._guests[key]


class Socket(asyncio.DatagramProtocol):
    """A UDP socket that loses what it cannot send."""

    transport: asyncio.DatagramTransport

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def error_received(self, exc: Exception) -> None:
        """Nobody listens there: that is what datagrams are like."""

    def send(self, data: bytes, to: Endpoint) -> None:
        if not self.transport.is_closing():
            self.transport.sendto(data, to)


class Door(Socket):
    """A public UDP port."""

    def __init__(self, proxy: Proxy, link: Link, side: int) -> None:
        self._proxy, self.link, self.side = proxy, link, side
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def inside(self) -> Endpoint:
        return HOST, self.link.real + self.side

    def datagram_received(self, data: bytes, addr: Any) -> None:
        sender = self._proxy.door_of(addr)
        if sender is not None:
            carry(data, (sender.link.back, self.link.to), sender, self.inside)
            return
        task = asyncio.create_task(self._from_guest(data, addr))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _from_guest(self, data: bytes, source: Endpoint) -> None:
        carry(data, (self.link.to,), await self._proxy.guest(source, self), self.inside)


class Guest(Socket):
    """Sends in the stead of a source that has no link, and brings the answers back."""

    def __init__(self, source: Endpoint, door: Door) -> None:
        self._source, self._door = source, door

    def datagram_received(self, data: bytes, addr: Any) -> None:
        carry(data, (self._door.link.back,), self._door, self._source)

    def close(self) -> None:
        self.transport.close()


def carry(data: bytes, lanes: tuple[Lane, ...], sender: Socket, to: Endpoint) -> None:
    """A datagram through the weather of these lanes."""
    loop = asyncio.get_running_loop()
    now = loop.time()
    if any(lane.drops(now) for lane in lanes):
        return
    seconds, copies = 0.0, [0.0]
    for lane in lanes:
        data = lane.damaged(data)
        seconds += lane.due(len(data), now) - now
        copies = [late + more for late in copies for more in lane.copies()]
    for late in copies:
        if seconds + late:
            loop.call_later(seconds + late, sender.send, data, to)
        else:
            sender.send(data, to)


_KINDS = (socket.SOCK_STREAM, socket.SOCK_DGRAM)


def _is_free(kind: int, port: int) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
