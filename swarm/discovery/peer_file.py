"""Peers that answered, kept on disk: by them a node finds its swarm again when no bootstrap answers. Knows nothing of datagrams.

The file is a hint and no more: who is in it is asked like anybody, and must sign with the key that its id is a hash of. Whoever
could write it gains nothing that he could not have by answering nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from swarm.discovery.addresses import Endpoint, pack_endpoint, unpack_endpoint
from swarm.discovery.keys import KEY_BYTES

MAX_PEERS = 64  # peers in a file
MAX_FILE_BYTES = 1 << 16
SUFFIX = ".peers"
MAX_FILES = 32  # such files in one directory, one for each swarm
MAX_AGE = 30 * 86400.0  # seconds since a peer was last seen
_VERSION = 1


@dataclass(frozen=True, slots=True)
class KnownPeer:
    """A node of the directory that has answered."""

    node: bytes  # id
    endpoint: Endpoint
    seen: float  # swarm time


def chosen(alive: Iterable[tuple[bytes, Endpoint]], before: Iterable[KnownPeer], now: float) -> list[KnownPeer]:
    """Whom to keep: of those who answer, first the ones that were known before; then those seen last."""
    kept = {peer.node: peer for peer in before if now - MAX_AGE < peer.seen}
    fresh = [KnownPeer(node, endpoint, now) for node, endpoint in alive]
    fresh.sort(key=lambda peer: peer.node not in kept)
    for peer in fresh:
        kept.pop(peer.node, None)
    return [*fresh, *sorted(kept.values(), key=lambda peer: -peer.seen)][:MAX_PEERS]


def read_peer_file(path: Path) -> list[KnownPeer]:
    """Empty if there is no such file. Raises OSError, ValueError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return []
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"more than {MAX_FILE_BYTES} bytes")
    try:
        content = json.loads(data)
        if content["version"] != _VERSION:
            raise ValueError(f"version {content['version']}")
        return [_peer(*fields) for fields in content["peers"][:MAX_PEERS]]
    except (KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"malformed: {error!r}") from error


def _peer(node: str, packed: str, seen: float) -> KnownPeer:
    found = KnownPeer(bytes.fromhex(node), unpack_endpoint(bytes.fromhex(packed)), float(seen))
    if len(found.node) != KEY_BYTES:
        raise ValueError("an id of another length")
    return found


def write_peer_file(path: Path, peers: Iterable[KnownPeer]) -> None:
    """Whole or not at all; in the place of the oldest file beside it if there are too many. Raises OSError."""
    listed = [[peer.node.hex(), pack_endpoint(peer.endpoint).hex(), round(peer.seen, 1)] for peer in peers]
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump({"version": _VERSION, "peers": listed}, file)
        beside.replace(path)
        files = sorted(path.parent.glob(f"*{SUFFIX}"), key=lambda found: found.stat().st_mtime)
        for old in files[:-MAX_FILES]:
            old.unlink(missing_ok=True)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
