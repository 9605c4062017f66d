"""What the platform's sockets can do beyond the common: options where they exist, and nothing where they do not."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys

from swarm.records import normalise_host

if sys.platform == "win32":
    fcntl = None
else:
    import fcntl
    import resource
    import termios

NOT_SENT_BYTES = 64 << 10  # the kernel takes no more than this beyond what the congestion window lets it send
USER_TIMEOUT_SECONDS = 20.0  # unacknowledged data ends a connection after this long
PLENTY = 1 << 16  # files
FILES_AT_REST = 32  # that a node has open, where it cannot be counted
KEEPALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}  # a vanished idle peer is noticed in 30 s


def tune(raw: socket.socket) -> None:
    """Small frames leave at once, little is queued in the kernel, and vanished peers are noticed while idle."""
    options = {
        "TCP_NODELAY": 1,
        "TCP_NOTSENT_LOWAT": NOT_SENT_BYTES,
        "TCP_USER_TIMEOUT": int(1e3 * USER_TIMEOUT_SECONDS),
        **KEEPALIVE,
    }
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in options.items():
        option = getattr(socket, name, None)
        if option is not None:
            raw.setsockopt(socket.IPPROTO_TCP, option, value)


def unacknowledged(raw: socket.socket) -> int:
    """Bytes that the kernel still keeps because the peer's machine has not acknowledged them; 0 where it cannot tell."""
    if fcntl is None:
        return 0
    try:
        (count,) = struct.unpack("i", fcntl.ioctl(raw.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))
    except (OSError, ValueError):
        return 0  # closed meanwhile
    return int(count)


def names(raw: asyncio.Transport) -> tuple[str, str]:
    """The far end's host, normalised, and host with port. Of one that has left already, the host is unspecified."""
    place = raw.get_extra_info("peername") or ("0.0.0.0", 0)
    host = normalise_host(place[0].partition("%")[0])
    return host, f"[{host}]:{place[1]}" if ":" in host else f"{host}:{place[1]}"


def raise_file_limit(wanted: int) -> None:
    """Let this process have so many files open, or as many as the system lets it; many allow 1024 until they are asked."""
    if fcntl is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def files_left() -> int:
    """How many more this process may open; as many as anybody needs where the platform cannot tell."""
    if fcntl is None:
        return PLENTY
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY:
        return PLENTY
    try:
        return int(soft) - len(os.listdir("/dev/fd"))
    except OSError:
        return int(soft) - FILES_AT_REST
