"""Which identity a command runs under: a key file of the user's data directory, held by a lock while it is in use.

Two processes under one identity would undo each other's announcements, so the lock is not advice: a second worker on the
machine gets a key of its own.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from swarm.errors import UsageFault
from swarm.identity import Identity

MAX_KEYS = 64  # default keys of one mode in use on one machine


def data_directory(environment: Mapping[str, str]) -> Path:
    """$XDG_DATA_HOME/swarm, else ~/.local/share/swarm (XDG Base Directory Specification)."""
    base = environment.get("XDG_DATA_HOME", "")
    return Path(base if os.path.isabs(base) else Path.home() / ".local" / "share") / "swarm"


def bans_file(environment: Mapping[str, str]) -> Path:
    """Where this user's clients remember peers that lied."""
    return data_directory(environment) / "bans.json"


def known_peers_file(
    bootstrap: Sequence[tuple[str, int]], swarm_key: bytes | None, environment: Mapping[str, str]
) -> Path | None:
    """Where the peers of that swarm are kept; None for who starts a swarm of his own."""
    if not bootstrap:
        return None
    names = "\n".join(sorted(f"{host} {port}" for host, port in bootstrap)).encode()
    which = hashlib.blake2b(names, key=hashlib.sha256(swarm_key or b"").digest(), digest_size=8).hexdigest()
    return data_directory(environment) / "swarms" / f"{which}.peers"


def default_keys(mode: str, directory: Path) -> Iterator[Path]:
    """worker.key, worker-2.key, worker-3.key, …"""
    for number in range(1, MAX_KEYS + 1):
        yield directory / (f"{mode}.key" if number == 1 else f"{mode}-{number}.key")


@contextmanager
def held_identity(mode: str, key: Path | None, environment: Mapping[str, str] = os.environ) -> Iterator[Identity]:
    """The identity in `key`, or in the first default key of this mode that no running process holds. Raises UsageFault."""
    for path in default_keys(mode, data_directory(environment)) if key is None else (key,):
        lock = _lock(path)
        if lock is None:
            continue
        try:
            yield Identity.load_or_create(path)
        finally:
            os.close(lock)
        return
    if key is not None:
        raise UsageFault(f"the key {key} is in use by another process: name another with --key")
    raise UsageFault(f"{MAX_KEYS} keys of {mode}s are in use on this machine: name another with --key")


def in_use(path: Path) -> bool:
    """Whether a running process holds this key. Raises UsageFault."""
    lock = _lock(path)
    if lock is not None:
        os.close(lock)
    return lock is None


def _lock(path: Path) -> int | None:
    """An open file that holds the lock beside the key, or None when somebody else holds it. Raises UsageFault.

    The key itself holds it where nothing can be created, as when it was mounted to be read only.
    """
    beside = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            raise UsageFault(f"the lock {beside} cannot be created: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError as error:
        os.close(descriptor)
        raise UsageFault(f"the lock {beside} cannot be taken: {error.strerror}") from error
    return descriptor
