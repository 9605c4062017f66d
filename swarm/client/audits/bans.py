"""Peers that lied, and until when they are left alone: a file of the user's own, or memory only.

A ban lasts a day, and each further one twice as long as the one before. It is a decision for this user alone: nobody else is
told, and nobody else's word counts. Beside the file lies what peers were convicted by (see `proof`). Several processes may
share the file: every change is made to what it holds by then, and noticed by the others when they look next.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from swarm.errors import UsageFault
from swarm.identity import PeerId

FIRST_SECONDS = 24 * 3600.0
MOST_SECONDS = 1024 * FIRST_SECONDS
MAX_BANS = 1024  # remembered, those that are over too, because they count; those that ended first are forgotten first
MAX_PROOFS = 64  # kept on disk; the latest
MAX_REASON = 400  # characters
MAX_FILE_BYTES = 2 << 20
FOLDER = "proofs"  # beside the file
_REMEDY = "correct it, or delete it to forget every ban"


@dataclass(frozen=True, slots=True)
class Ban:
    """What is remembered of one peer."""

    peer_id: PeerId
    since: float  # seconds since the epoch
    until: float
    count: int  # how often it was banned
    reason: str  # for a person


class Bans:
    """`load` before use. `path` None: nothing is kept beyond this object. `now` is the wall clock, or swarm time."""

    def __init__(self, path: Path | None, now: Callable[[], float]) -> None:
        self._path = path
        self._now = now
        self._bans: dict[PeerId, Ban] = {}
        self._unsaved: dict[PeerId, Ban] = {}  # that could not be written down
        self._seen: tuple[int, int] | None = None  # the file's time and size when it was read

    def load(self) -> None:
        """What the file holds. Raises UsageFault naming it when it is damaged or cannot be read."""
        if self._path is not None:
            self._seen = _state_of(self._path)
            self._bans = _read(self._path) | self._unsaved

    def banned(self) -> frozenset[PeerId]:
        return frozenset(ban.peer_id for ban in self.entries())

    def entries(self) -> list[Ban]:
        """Those in force, the one that ends last first."""
        if self._path is not None and _state_of(self._path) != self._seen:
            with suppress(UsageFault):  # damaged since it was loaded: what is known holds until somebody looks
                self.load()
        now = self._now()
        return sorted(
            (ban for ban in self._bans.values() if now < ban.until), key=lambda ban: (-ban.until, ban.peer_id)
        )

    def ban(self, peer_id: PeerId, reason: str, evidence: Mapping[str, Any] | None = None) -> Ban:
        """From now on, for a day or twice as long as the last time. `evidence` is kept as JSON.

        Raises UsageFault when that cannot be written down; it holds in this process all the same.
        """
        try:
            with self._changing():
                ban = self._bans[peer_id] = self._next(peer_id, reason)
                if evidence is not None:
                    self._keep(peer_id, evidence)
        except UsageFault:
            self._bans[peer_id] = self._unsaved[peer_id] = self._next(peer_id, reason)
            raise
        return ban

    def clear(self, peer_id: PeerId) -> bool:
        """Forget a peer's bans; whether there were any. Raises UsageFault."""
        with self._changing():
            known = self._bans.pop(peer_id, None) is not None
            if self._path is not None:
                self.proof_of(peer_id).unlink(missing_ok=True)
        return known

    def proof_of(self, peer_id: PeerId) -> Path:
        """Where the proof of its last lie lies, if one is kept. Raises UsageFault where nothing is written down."""
        if self._path is None:
            raise UsageFault("these bans are kept in memory only, and no proofs with them")
        return self._path.parent / FOLDER / f"{peer_id.hex()}.json"

    def _next(self, peer_id: PeerId, reason: str) -> Ban:
        old = self._bans.get(peer_id)
        count = 1 if old is None else old.count + 1
        seconds = min(MOST_SECONDS, FIRST_SECONDS * 2.0 ** min(count - 1, 64))
        now = self._now()
        return Ban(peer_id, now, now + seconds, count, reason[:MAX_REASON])

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Alone with the file: read it, change it, write it. Raises UsageFault."""
        if self._path is None:
            yield
            self._bans = _bounded(self._bans)
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                before = self._bans
                self._bans = _read(self._path) | self._unsaved
                try:
                    yield
                    self._bans = _bounded(self._bans)
                    _replace(self._path, json.dumps(_as_data(self._bans), indent=1))
                except BaseException:  # whatever it is, nothing was changed
                    self._bans = before
                    raise
                self._unsaved = {}
                self._seen = _state_of(self._path)
            finally:
                os.close(lock)
        except OSError as error:
            raise UsageFault(f"the bans in {self._path} cannot be changed: {error.strerror or error}") from error

    def _keep(self, peer_id: PeerId, evidence: Mapping[str, Any]) -> None:
        """A proof; the oldest ones go. Raises OSError."""
        if self._path is None:
            return
        place = self.proof_of(peer_id)
        place.parent.mkdir(exist_ok=True, mode=0o700)
        _replace(place, json.dumps(evidence))
        kept = sorted(place.parent.glob("*.json"), key=lambda path: (path == place, path.stat().st_mtime))
        for old in kept[:-MAX_PROOFS]:
            old.unlink(missing_ok=True)


def _bounded(bans: dict[PeerId, Ban]) -> dict[PeerId, Ban]:
    kept = sorted(bans.values(), key=lambda ban: ban.until)[-MAX_BANS:]
    return {ban.peer_id: ban for ban in kept}


def _state_of(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _replace(path: Path, text: str) -> None:
    """Whole or not at all, whenever this process ends. Raises OSError."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def _as_data(bans: Mapping[PeerId, Ban]) -> dict[str, Any]:
    return {"bans": [asdict(ban) | {"peer_id": str(ban.peer_id)} for ban in bans.values()]}


def _read(path: Path) -> dict[PeerId, Ban]:
    """Raises UsageFault."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageFault(f"the bans in {path} cannot be read: {error.strerror or error}") from error
    if len(raw) > MAX_FILE_BYTES:
        raise UsageFault(f"the bans in {path} exceed {MAX_FILE_BYTES} bytes: {_REMEDY}")
    try:
        bans = [_parse(entry) for entry in json.loads(raw)["bans"]]
    except (ValueError, TypeError, KeyError, RecursionError, UsageFault) as error:
        raise UsageFault(f"the bans in {path} are damaged ({error}): {_REMEDY}") from error
    return _bounded({ban.peer_id: ban for ban in bans})


def _parse(entry: Any) -> Ban:
    """Raises UsageFault, ValueError, TypeError or KeyError."""
    since, until, count, reason = (entry[name] for name in ("since", "until", "count", "reason"))
    if not all(type(moment) in (int, float) and isfinite(moment) for moment in (since, until)):
        raise ValueError(f"from {since!r} until {until!r} is no time")
    if type(count) is not int or count < 1 or type(reason) is not str:
        raise ValueError(f"count is {count!r}, reason {reason!r}")
    return Ban(PeerId.parse(entry["peer_id"]), float(since), float(until), count, reason[:MAX_REASON])
