"""UDP addresses as they travel: packed, v4 or v6, never a name. Also how near an address is. Pure."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import TypeVar

from swarm.records import address_block, normalise_host

V4_BYTES, V6_BYTES = 6, 18  # host and port
_CACHED_HOSTS = 4096
MAX_OF_BLOCK = 2  # nodes of one address block that come before those of others

T = TypeVar("T")
Endpoint = tuple[str, int]  # normalised numeric host, port


@lru_cache(_CACHED_HOSTS)
def pack_endpoint(endpoint: Endpoint) -> bytes:
    return ipaddress.ip_address(endpoint[0]).packed + endpoint[1].to_bytes(2, "big")


def unpack_endpoint(packed: object) -> Endpoint:
    """Raises ValueError for anything that is not the unicast address and port of a host."""
    if type(packed) is not bytes or len(packed) not in (V4_BYTES, V6_BYTES):
        raise ValueError("no packed address")
    return _unpacked(packed)


@lru_cache(_CACHED_HOSTS)
def _unpacked(packed: bytes) -> Endpoint:
    """Every answer names nodes that were named before."""
    address = ipaddress.ip_address(packed[:-2])
    port = int.from_bytes(packed[-2:], "big")
    if not port or address.is_multicast or address.is_unspecified or packed[:4] == b"\xff\xff\xff\xff":
        raise ValueError("no address of a host")
    return normalise_host(str(address)), port


@lru_cache(_CACHED_HOSTS)
def reach(host: str) -> int:
    """0 for loopback, 1 for addresses of a local network, 2 for global ones.

    A peer may name others at its own reach or wider: a stranger from the internet cannot make us talk to our own network.
    """
    address = ipaddress.ip_address(host)
    return 0 if address.is_loopback else 2 if address.is_global else 1


def spread(items: Iterable[T], host: Callable[[T], str]) -> Iterator[T]:
    """The same items, in their order, but what is crowded in one /24 or /48 of the internet comes last.

    Ids are ground where they are wanted; addresses in many networks are harder to come by.
    """
    last: list[T] = []
    of_block: Counter[bytes] = Counter()
    for item in items:
        where = host(item)
        if reach(where) == 2:
            block = address_block(where)
            of_block[block] += 1
            if of_block[block] > MAX_OF_BLOCK:
                last.append(item)
                continue
        yield item
    yield from last
