"""Who may use which cache, up to when, and what was answered last. Knows nothing of sockets, of asyncio or of torch.

A session belongs to the peer that opened it; to anybody else it does not exist. Its last answer is kept, because a reply
can be lost after the work was done: a repeated step is answered again and computed once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from swarm.errors import Gap, Overloaded, SessionFault
from swarm.identity import PeerId
from swarm.wire.messages import Forward, Result
from swarm.wire.receipts import Tally

PEER_SHARE = 0.5  # of all sessions is the most that one peer may hold


class Cache(Protocol):
    """What a session needs of an engine cache."""

    @property
    def position(self) -> int: ...

    def rollback(self, position: int) -> None: ...

    def close(self) -> None: ...


@dataclass(slots=True)
class SessionSlot:
    """One session at this worker."""

    session_id: bytes
    owner: PeerId
    cache: Cache
    lease_until: float  # loop time, seconds
    max_rows: int  # what the cache was reserved for
    step: int = -1  # the last step begun
    previous: int = -1  # the one before it
    tally: Tally | None = None  # of the rows that have no receipt yet
    result: Result | None = None  # of that step, once it is computed
    busy: bool = False  # the compute thread holds the cache
    closed: bool = False

    def close(self) -> None:
        """Free the cache, at once or when the compute thread lets go of it."""
        self.closed = True
        if not self.busy:
            self.cache.close()

    def begin(self, step: int) -> None:
        self.previous, self.step, self.result, self.busy = self.step, step, None, True

    def finish(self, result: Result | None) -> None:
        """The step is computed, or failed (None): then it may be repeated."""
        self.result, self.busy = result, False
        if result is None:
            self.step = self.previous
        if self.closed:
            self.cache.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "busy" if self.busy else "idle"
        return f"<session {self.session_id.hex()[:8]} of {self.owner.short} at {self.cache.position}, step {self.step}, {state}>"


class SessionTable:
    """All sessions of a worker. `now` is passed into every call that judges a lease."""

    def __init__(self, max_sessions: int, lease_seconds: float) -> None:
        self._max_sessions = max_sessions
        self._lease_seconds = lease_seconds
        self._slots: dict[bytes, SessionSlot] = {}

    def __len__(self) -> int:
        return len(self._slots)

    def __iter__(self) -> Iterator[SessionSlot]:
        return iter(tuple(self._slots.values()))

    def admit(self, owner: PeerId, session_id: bytes) -> None:
        """Whether `owner` may open this session; an older one of the same name and owner is closed.

        Raises SessionFault when the name is another peer's, Overloaded when the table or the peer's share of it is full.
        """
        old = self._slots.get(session_id)
        if old is not None and old.owner != owner:
            raise SessionFault("this session id is taken")
        if old is not None:
            self.close(old)
        if len(self._slots) >= self._max_sessions:
            raise Overloaded(f"{self._max_sessions} sessions are open here, which is the limit")
        share = max(1, int(self._max_sessions * PEER_SHARE))
        if sum(slot.owner == owner for slot in self._slots.values()) >= share:
            raise Overloaded(f"you have {share} sessions open here, which is the limit for one peer")

    def add(self, owner: PeerId, session_id: bytes, cache: Cache, max_rows: int, now: float) -> SessionSlot:
        slot = SessionSlot(session_id, owner, cache, now + self._lease_seconds, max_rows)
        self._slots[session_id] = slot
        return slot

    def use(self, owner: PeerId, session_id: bytes, now: float) -> SessionSlot:
        """The owner's session, its lease renewed. Raises SessionFault, in the same words whatever the reason."""
        slot = self._slots.get(session_id)
        if slot is None or slot.owner != owner:
            raise SessionFault(
                f"no session {session_id.hex()[:8]} of yours is open here: it lapsed, or was never opened"
            )
        slot.lease_until = max(slot.lease_until, now + self._lease_seconds)
        return slot

    def shorten(self, owner: PeerId, until: float) -> None:
        """The owner's last connection ended: its sessions lapse at `until` unless it returns."""
        for slot in self:
            if slot.owner == owner:
                slot.lease_until = min(slot.lease_until, until)

    def close(self, slot: SessionSlot) -> None:
        if self._slots.get(slot.session_id) is slot:
            del self._slots[slot.session_id]
        if not slot.closed:
            slot.close()

    def expire(self, now: float) -> list[SessionSlot]:
        """Close the sessions whose lease ended; returns them."""
        lapsed = [slot for slot in self if now >= slot.lease_until and not slot.busy]
        for slot in lapsed:
            self.close(slot)
        return lapsed

    def close_all(self) -> None:
        for slot in self:
            self.close(slot)


def check_position(slot: SessionSlot, message: Forward) -> None:
    """A position may repeat or go back, never leave a gap. Raises Gap or Overloaded.

    A worker that attended over rows it never saw would answer with plausible nonsense.
    """
    if message.position > slot.cache.position:
        raise Gap(
            f"position {message.position} leaves a gap: session {slot.session_id.hex()[:8]} holds {slot.cache.position} rows here"
        )
    rows = message.tensor.shape[0]
    if message.position + rows > slot.max_rows:
        raise Overloaded(
            f"rows up to {message.position + rows} exceed the {slot.max_rows} that this session reserved",
            retry_after=0.0,
        )
