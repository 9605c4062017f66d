"""The directory's one UDP socket, and host names. Knows address families, but not what datagrams say.

Above it a host is a numeric address in one spelling (`normalise_host`); a dual-stack socket's `::ffff:` forms stay in here.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

from swarm.discovery.addresses import Endpoint, reach
from swarm.errors import PortInUse, UsageFault
from swarm.records import normalise_host

MAX_SEND_BUFFER = 1 << 18  # bytes that wait for the socket; beyond it datagrams are dropped, as a full link would
RECEIVE_BUFFER = 1 << 20  # bytes asked of the system
MAX_RESOLVED = 16  # addresses taken from one name
RESOLVE_SECONDS = 3.0  # a name server that is out of reach must not keep us from peers that are known by address
ANY_HOST = "::"  # v4 and v6


class Socket(Protocol):
    """What the protocol needs of a socket, real or fake."""

    port: int

    def send(self, data: bytes, to: Endpoint) -> bool:
        """Whether the system took it."""

    def reaches(self, host: str) -> bool:
        """Whether there is a way to such addresses, as far as known."""

    def close(self) -> None: ...


class Receiver(Protocol):
    """Who gets the datagrams. Must not raise, whatever they hold."""

    def received(self, data: bytes, source: Endpoint) -> None: ...


OpenSocket = Callable[[Receiver, str, int], Awaitable[Socket]]


class UdpSocket(asyncio.DatagramProtocol):
    """A v4, v6 or dual-stack socket. A datagram that cannot be sent is lost like one on the way."""

    def __init__(self, receiver: Receiver, bound: socket.socket) -> None:
        self.port: int = bound.getsockname()[1]
        self.errors = 0  # datagrams that the system refused to send
        self._receiver = receiver
        self._v6 = bound.family == socket.AF_INET6
        only_v6 = self._v6 and bool(bound.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
        # whether v6, and reach, of addresses to which there was no way when last tried
        self._no_way = {(not self._v6, width) for width in (0, 1, 2)} if only_v6 or not self._v6 else set()
        self._transport: Any = None  # a DatagramTransport, which in Python 3.11 does not say so

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._receiver.received(data, (normalise_host(addr[0]), addr[1]))

    def error_received(self, exc: Exception) -> None:
        self.errors += 1

    def send(self, data: bytes, to: Endpoint) -> bool:
        host, port = to
        transport = self._transport
        if transport is None or transport.is_closing() or transport.get_write_buffer_size() > MAX_SEND_BUFFER:
            return False
        way, errors = (":" in host, reach(host)), self.errors
        transport.sendto(data, (f"::ffff:{host}" if self._v6 and ":" not in host else host, port))
        if self.errors > errors:
            self._no_way.add(way)
            return False
        self._no_way.discard(way)
        return True

    def reaches(self, host: str) -> bool:
        return (":" in host, reach(host)) not in self._no_way

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def _bind(host: str, port: int) -> socket.socket:
    """A bound socket; dual-stack for ANY_HOST where the machine can, v4 alone where it has no v6."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if host == ANY_HOST and not socket.has_ipv6:
        family, host = socket.AF_INET, "0.0.0.0"
    try:
        bound = socket.socket(family, socket.SOCK_DGRAM)
    except OSError as error:
        if host == ANY_HOST and error.errno == errno.EAFNOSUPPORT:
            return _bind("0.0.0.0", port)
        raise
    try:
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == ANY_HOST else 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        bound.setblocking(False)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        if host == ANY_HOST and error.errno == errno.EADDRNOTAVAIL:
            return _bind("0.0.0.0", port)
        raise
    return bound


async def open_udp(receiver: Receiver, host: str, port: int) -> Socket:
    """Bind and listen. Raises PortInUse, or UsageFault for a host that is none of this machine's."""
    try:
        bound = _bind(host or ANY_HOST, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(f"UDP port {port} is in use by another program; choose another with --port") from error
        raise UsageFault(
            f"cannot listen for the directory on {host or ANY_HOST} port {port}: {error.strerror}"
        ) from error
    listening = UdpSocket(receiver, bound)
    await asyncio.get_running_loop().create_datagram_endpoint(lambda: listening, sock=bound)
    return listening


async def resolve(names: Iterable[tuple[str, int]]) -> dict[tuple[str, int], list[Endpoint]]:
    """The addresses of host names, asked in parallel without blocking the loop; empty for a name that does not resolve."""

    async def one(host: str, port: int) -> list[Endpoint]:
        try:
            return [(normalise_host(str(ipaddress.ip_address(host))), port)]
        except ValueError:
            pass
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError):  # TimeoutError is an OSError
            return []
        return list(dict.fromkeys((normalise_host(str(info[4][0])), port) for info in infos))[:MAX_RESOLVED]

    wanted = list(names)
    found = await asyncio.gather(*(one(host, port) for host, port in wanted))
    return dict(zip(wanted, found, strict=True))
