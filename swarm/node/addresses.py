"""Which addresses a node tells others. Pure but for asking the kernel what interfaces there are (no packet is sent)."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from contextlib import suppress

import psutil

from swarm.records import MAX_ADDRESSES, Address, normalise_host

BRIDGES = (
    "docker",
    "br-",
    "veth",
    "virbr",
    "vmnet",
    "vboxnet",
    "cni",
    "podman",
    "lxc",
    "lxd",
    "flannel",
    "cali",
    "bridge",
)
TUNNELS = ("tun", "tap", "utun", "wg", "tailscale", "ts", "zt", "ppp")


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
    """This machine's addresses, those first by which others are likeliest to reach it: of interfaces that are up, without
    those that only work with an interface's name (link-local)."""
    up = {name for name, state in psutil.net_if_stats().items() if state.isup}
    found = [
        (name, entry.address)
        for name, entries in psutil.net_if_addrs().items()
        for entry in entries
        if entry.family in (socket.AF_INET, socket.AF_INET6) and (name in up or not up)
    ]
    return ranked(found, routed_address())


class Interfaces:
    """This machine's addresses, and those known last while the system cannot be asked: no file may be left to ask it with."""

    def __init__(self) -> None:
        self._known: list[str] = []

    def addresses(self) -> list[str]:
        with suppress(OSError):
            self._known = own_addresses()
        return self._known


def ranked(found: Iterable[tuple[str, str]], routed: str | None) -> list[str]:
    """Addresses of interfaces, (name, address), in the order to announce them in: those of cards, then tunnels, bridges of
    containers, loopback. Within a kind the one first by which the machine reaches others, then IPv4."""

    def rank(entry: tuple[str, str]) -> tuple[int, bool, bool]:
        name, host = entry
        address = ipaddress.ip_address(host)
        kind = 3 if address.is_loopback else 2 if name.startswith(BRIDGES) else 1 if name.startswith(TUNNELS) else 0
        return kind, host != routed, address.version == 6

    usable = [entry for entry in found if "%" not in entry[1] and not ipaddress.ip_address(entry[1]).is_link_local]
    return list(dict.fromkeys(host for _, host in sorted(usable, key=rank)))


def routed_address() -> str | None:
    """The one that the kernel takes towards the outside; None without a route there."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # a documentation address; nothing is sent
            return str(probe.getsockname()[0])
    except OSError:
        return None


def only_here(addresses: Iterable[Address]) -> bool:
    """Whether nobody on another machine can use them."""
    return all(ipaddress.ip_address(address.host).is_loopback for address in addresses)
