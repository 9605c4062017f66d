"""Which addresses a node tells others. Pure but for asking the kernel which interface leads somewhere (no packet is sent)."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable

from swarm.records import MAX_ADDRESSES, Address, normalise_host


def announced(
    listening: str, public: str | None, observed: str | None, interfaces: Iterable[str], ports: tuple[int, int, int]
) -> tuple[Address, ...]:
    """Addresses to announce, the likeliest to be reached from elsewhere first.

    `listening` is what the sockets are bound to, `observed` what other peers saw, `interfaces` this machine's own addresses.
    A loopback address stands last: it serves peers on this machine and is refused by identity on any other.
    """
    if public is not None:
        return (Address(normalise_host(public), *ports),)
    if not ipaddress.ip_address(listening).is_unspecified:
        return (Address(normalise_host(listening), *ports),)
    hosts = [normalise_host(host) for host in (observed, *interfaces) if host is not None]
    loopback = [host for host in hosts if ipaddress.ip_address(host).is_loopback]
    others = [host for host in hosts if host not in loopback]
    unique = dict.fromkeys([*others, *(loopback or ["127.0.0.1"])])
    return tuple(Address(host, *ports) for host in unique)[:MAX_ADDRESSES]


def own_addresses() -> list[str]:
    """This machine's addresses on the way to the outside, as far as the kernel has a route."""
    found: list[str] = []
    for family, far in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):  # documentation addresses
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((far, 9))
                found.append(probe.getsockname()[0])
        except OSError:
            continue  # no route in this family
    return found
