"""asyncio-dgram, with its sharp edges covered: a bounded receive queue, failed sends that stay where they fail, and
addresses that are checked before a bad one can close the socket. Knows nothing of what the datagrams mean.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from typing import Any

from asyncio_dgram import TransportClosed
from asyncio_dgram.aio import DatagramServer, Protocol

from swarm.errors import PortInUse, UsageFault
from swarm.records import normalise_host

MAX_QUEUED = 256  # datagrams received and not yet read; more are dropped, as a network may

Place = tuple[str, int]  # numeric host, normalised, and port


class _Protocol(Protocol):
    """Drops what does not fit, and keeps errors of single sends out of everybody else's `recv`."""

    def __init__(self, owner: Datagrams, queue: asyncio.Queue[Any], errors: asyncio.Queue[Any], drained: asyncio.Event):
        super().__init__(queue, errors, drained)
        self._owner = owner

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if self._owner.queue.full():
            self._owner.dropped += 1
        else:
            super().datagram_received(data, addr)

    def error_received(self, exc: Exception) -> None:
        self._owner.failed += 1  # an unreachable host or port: its probes stay unanswered

    def connection_lost(self, exc: Exception | None) -> None:
        while self._owner.queue.full():
            self._owner.queue.get_nowait()  # room for the mark that ends `receive`
        super().connection_lost(None)


class Datagrams:
    """A UDP socket. `async with` opens and closes it. Raises PortInUse, UsageFault."""

    def __init__(self, host: str, port: int) -> None:
        self._place = (host, port)
        self._stream: DatagramServer | None = None
        self._mapped = False  # v4 addresses are written as v6
        self.queue: asyncio.Queue[Any] = asyncio.Queue(MAX_QUEUED)
        self.port = port
        self.dropped = 0  # datagrams that found the queue full
        self.failed = 0  # sends that the system reported as failed

    async def __aenter__(self) -> Datagrams:
        bound = _bind(*self._place)
        self._mapped = bound.family == socket.AF_INET6
        self.port = bound.getsockname()[1]
        errors: asyncio.Queue[Any] = asyncio.Queue()
        drained = asyncio.Event()
        loop = asyncio.get_running_loop()
        transport: Any
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _Protocol(self, self.queue, errors, drained), sock=bound
        )
        self._stream = DatagramServer(transport, self.queue, errors, drained)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()

    async def receive(self) -> tuple[bytes, Place] | None:
        """The next datagram and its sender; None once the socket is closed."""
        assert self._stream is not None
        try:
            received: tuple[bytes, Any] = await self._stream.recv()
        except TransportClosed:
            return None
        data, (host, port, *_) = received
        return data, (normalise_host(host.partition("%")[0]), port)

    async def send(self, data: bytes, place: Place) -> bool:
        """Whether it could be tried. Waits while the system takes no more."""
        target = self._target(place)
        if target is None or self._stream is None:
            return False
        try:
            await self._stream.send(data, target)
        except TransportClosed:
            return False
        return True

    def _target(self, place: Place) -> Place | None:
        """How this socket writes an address, or None if it cannot reach it."""
        host, port = place
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return None
        if not 0 < port < 1 << 16 or (address.version == 6 and not self._mapped):
            return None
        return (f"::ffff:{host}" if self._mapped and address.version == 4 else host), port

    def __repr__(self) -> str:
        return f"Datagrams(port={self.port}, queued={self.queue.qsize()}, dropped={self.dropped}, failed={self.failed})"


def _bind(host: str, port: int) -> socket.socket:
    """An empty host, and `::`, mean every address of v4 and v6."""
    dual = host in ("", "::") and socket.has_dualstack_ipv6()
    bound = socket.socket(socket.AF_INET6 if dual or ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        bound.setblocking(False)
        if dual:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(f"another program uses UDP port {port}: choose another with --port") from error
        where = f"{host or 'any address'}, UDP port {port}"
        raise UsageFault(f"cannot listen on {where}: {error.strerror or error}") from error
    return bound
