"""Who may use which cache, up to when, and what was answered last. Knows nothing of sockets, of asyncio or of torch.

A session belongs to the peer that opened it; to anybody else it does not exist. Sessions, the cache and the rows that wait to be
computed are shared out by peer and address block (see `swarm.shares`). A session's last answer is kept, because a reply
can be lost after the work was done: a repeated step is answered again and computed once.

A session that has ended may be kept, so that another of its owner can begin with its rows. What is kept counts as free: it is
in nobody's way, since it goes, that of the least recent use first, as soon as somebody needs its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Protocol

from swarm.config import WorkerConfig
from swarm.errors import Overloaded, SessionFault, UsageFault
from swarm.identity import PeerId
from swarm.shares import Holder, Shares
from swarm.span import LayerSpan
from swarm.wire.messages import Fault, Result
from swarm.wire.receipts import Tally

KEPT_RESULTS = 32  # answers of one session: more than a prompt's chunks may be under way, or decode rows be owed
KEPT_BYTES = 8 << 20  # of their rows, unless the last has more
GROWTH_ROWS = 256  # that a session's cache grows by if there is room, or a quarter of it: growing copies what is there
GROWTH_RETRY = 0.25  # seconds: a place that a growing session waits for is soon had, or not to be waited for


class Cache(Protocol):
    """What a session needs of an engine cache."""

    span: LayerSpan

    @property
    def position(self) -> int: ...

    def holds(self, position: int) -> bool: ...

    def beginning(self, rows: int) -> int: ...

    def rollback(self, position: int) -> None: ...

    def extend(self, max_rows: int) -> None: ...

    def settle(self) -> int: ...

    def close(self) -> None: ...


class Held(Protocol):
    """What a session holds until its end: an edge to the next worker, see `edges`."""

    def release(self) -> None: ...


@dataclass(slots=True)
class SessionSlot:
    """One session at this worker."""

    session_id: bytes
    holder: Holder  # the peer that opened it, and from where
    cache: Cache
    lease_until: float  # loop time, seconds
    max_rows: int  # what the cache is reserved for; see `SessionTable.grow`
    cache_bytes: int = 0  # of the budget
    step: int = -1  # the last step begun
    previous: int = -1  # the one before it
    tally: Tally | None = None  # of the rows that have no receipt yet
    results: dict[int, Result] = field(default_factory=dict)  # of the last steps, for whoever asks again or late
    results_bytes: int = 0  # of their rows
    failed: tuple[int, Fault] | None = None  # the last step that ended so, for an owner whose question comes late
    busy: bool = False  # the compute thread holds the cache
    copying: int = 0  # sessions that are just being given rows of this one
    edge: Held | None = None  # where its rows go on, see `edges`; None: to the owner alone
    predecessor: PeerId | None = None  # who may bring rows besides the owner
    epoch: int = 0  # of that edge
    kept_at: float | None = None  # it has ended and is kept; since then, or since it was last a parent
    closed: bool = False

    @property
    def owner(self) -> PeerId:
        return self.holder.peer

    def close(self) -> None:
        """Free the cache, at once or when the compute thread lets go of it."""
        self.closed = True
        self.let_go()
        self._free()

    def _free(self) -> None:
        if self.closed and not self.busy and not self.copying:
            self.cache.close()

    def lend(self) -> None:
        """Rows of it are about to be copied; `lent` when they are."""
        self.copying += 1

    def lent(self) -> None:
        self.copying -= 1
        self._free()

    def begin(self, step: int) -> None:
        self.previous, self.step, self.busy = self.step, step, True

    def finish(self, result: Result | None) -> None:
        """The step is computed, or failed (None): then it may be repeated."""
        self.busy = False
        if result is None:
            self.step = self.previous
        else:
            self._keep(result)
        self._free()

    def _keep(self, result: Result) -> None:
        """The last ones: an owner asks late for what was pushed, and again for all that a broken connection lost."""
        results = self.results
        while results and (last := next(reversed(results.values()))).position >= result.position:
            self._drop(last.step)  # these rows were computed anew
        results[result.step] = result
        self.results_bytes += result.tensor.data.nbytes
        while len(results) > (KEPT_RESULTS if self.results_bytes <= KEPT_BYTES else 1):
            self._drop(next(iter(results)))

    def _drop(self, step: int) -> None:
        self.results_bytes -= self.results.pop(step).tensor.data.nbytes

    def let_go(self) -> None:
        """Its rows go on to nobody any more."""
        edge, self.edge = self.edge, None
        if edge is not None:
            edge.release()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "busy" if self.busy else "idle" if self.kept_at is None else "kept"
        return f"<session {self.session_id.hex()[:8]} of {self.owner.short} at {self.cache.position}, step {self.step}, {state}>"


class SessionTable:
    """All sessions of a worker. `now` is passed into every call that judges a lease."""

    def __init__(self, config: WorkerConfig, cache_bytes: int) -> None:
        self._lease_seconds = config.lease_seconds
        self._max_clients = config.max_clients
        self._slots: dict[bytes, SessionSlot] = {}
        shares = (config.peer_share, config.block_share)
        self._sessions = Shares(config.max_sessions, *shares)
        self._cache = Shares(cache_bytes, *shares)
        self._rows = Shares(config.max_queue_rows, *shares)  # being computed, or waiting to be
        self._kept = Shares(cache_bytes, *shares)  # bytes, among those that are kept

    def __len__(self) -> int:
        """Sessions that have not ended."""
        return self._sessions.used

    @property
    def kept_bytes(self) -> int:
        """Of the cache, held by sessions that have ended."""
        return self._kept.used

    def resize(self, cache_bytes: int) -> None:
        """Caches have so many bytes from now on; who holds more keeps it."""
        self._cache.capacity = self._kept.capacity = cache_bytes

    def __iter__(self) -> Iterator[SessionSlot]:
        return iter(tuple(self._slots.values()))

    def admit(self, holder: Holder, session_id: bytes, cache_bytes: int = 0) -> None:
        """Whether a peer may open this session; an older one of the same name and owner is closed.

        Raises SessionFault when the name is another peer's, Overloaded when the peer or its address block has its share.
        A cache that would not fit at all is left to the cache's own budget to refuse, which has the figures.
        """
        old = self._slots.get(session_id)
        if old is not None and old.owner != holder.peer:
            raise SessionFault("this session id is taken")
        if old is not None:
            self.close(old)
        owners = {slot.owner for slot in self._slots.values() if slot.kept_at is None} - {holder.peer}
        if self._max_clients is not None and len(owners) >= self._max_clients:
            raise Overloaded(f"it computes for {self._max_clients} clients at once (--max-clients), and they are here")
        refused = self._sessions.refusal(holder, 1)
        if refused is not None:
            raise Overloaded(f"sessions: {refused}")
        refused = self._cache.refusal(holder, cache_bytes)
        if refused is not None and cache_bytes <= self._cache.capacity - self._cache.used:
            raise Overloaded(f"bytes of cache for a session of {cache_bytes}: {refused}")

    def reach(self, slot: SessionSlot, rows: int, context: int, needed: Callable[[int, LayerSpan], int]) -> None:
        """Room for a session's rows up to that position, and for more if it is there. Raises Overloaded, UsageFault."""
        if rows <= slot.max_rows:
            return None
        if rows > context:
            raise UsageFault(f"rows up to {rows}: the model's context is {context}")
        for wanted in (min(context, rows + max(GROWTH_ROWS, rows // 4)), rows):
            try:
                return self._grow(slot, wanted, needed(wanted, slot.cache.span))
            except Overloaded as error:
                refused = error
        raise Overloaded(str(refused), GROWTH_RETRY if isfinite(refused.retry_after) else inf)

    def _grow(self, slot: SessionSlot, max_rows: int, cache_bytes: int) -> None:
        """Reserve so many rows in all for a session, which take so many bytes in all. Raises Overloaded, and nothing changes."""
        more = cache_bytes - slot.cache_bytes
        refused = self._cache.refusal(slot.holder, cache_bytes, instead=slot.cache_bytes)
        if refused is not None and more <= self._cache.capacity - self._cache.used:
            raise Overloaded(f"bytes of cache for a session that grows to {cache_bytes}: {refused}")
        self.make_room(slot.holder, more, places=0)
        slot.cache.extend(max_rows)
        self._cache.take(slot.holder, more)
        slot.max_rows, slot.cache_bytes = max_rows, cache_bytes

    def make_room(self, holder: Holder, cache_bytes: int, parent: SessionSlot | None = None, places: int = 1) -> None:
        """Close kept sessions that are in the way of a new one, which `admit` has let in, or of one that grows (then it takes no
        place): those of its own address block first.

        So whoever opens many sessions pushes out what others keep only where it keeps nothing itself.
        """
        free = self._cache.capacity - self._cache.used - self._kept.used
        vacant = self._sessions.capacity - len(self._slots)
        going: list[SessionSlot] = []
        for slot in sorted(self.kept(), key=lambda slot: slot.holder.block != holder.block):
            if free >= cache_bytes and vacant >= places:
                break
            if slot is not parent and not slot.copying:
                going.append(slot)
                free, vacant = free + slot.cache_bytes, vacant + 1
        if free >= cache_bytes and vacant >= places:  # else nothing is gained
            for slot in going:
                self.close(slot)

    def keep(self, slot: SessionSlot, now: float) -> None:
        """The session has ended, and may be a parent until others need its place. Raises SessionFault where it may not."""
        if slot.busy:
            raise SessionFault(f"{slot!r} has not ended: a step of it is being computed")
        if slot.kept_at is not None:
            return
        self._give(slot)
        slot.kept_at, slot.cache_bytes = now, slot.cache.settle()
        slot.results.clear()
        slot.results_bytes = 0
        slot.let_go()
        slot.predecessor = None
        own = [each for each in self.kept() if each.owner == slot.owner and each is not slot]
        refused = self._kept.refusal(slot.holder, slot.cache_bytes)
        while refused and own:
            self.close(own.pop(0))
            refused = self._kept.refusal(slot.holder, slot.cache_bytes)
        self._kept.take(slot.holder, slot.cache_bytes)
        if refused:
            self.close(slot)
            raise SessionFault(f"bytes of cache for sessions that have ended: {refused}")

    def kept(self) -> list[SessionSlot]:
        """The sessions that have ended, that of the least recent use first."""
        return sorted(
            (slot for slot in self._slots.values() if slot.kept_at is not None), key=lambda slot: slot.kept_at or 0.0
        )

    def _give(self, slot: SessionSlot) -> None:
        if slot.kept_at is None:
            self._sessions.give(slot.holder, 1)
            self._cache.give(slot.holder, slot.cache_bytes)
        else:
            self._kept.give(slot.holder, slot.cache_bytes)

    def add(
        self, holder: Holder, session_id: bytes, cache: Cache, max_rows: int, now: float, cache_bytes: int = 0
    ) -> SessionSlot:
        slot = SessionSlot(session_id, holder, cache, now + self._lease_seconds, max_rows, cache_bytes)
        self._slots[session_id] = slot
        self._sessions.take(holder, 1)
        self._cache.take(holder, cache_bytes)
        return slot

    def take_rows(self, slot: SessionSlot, count: int) -> None:
        """Rows are to be computed; `give_rows` once they are. Raises Overloaded."""
        refused = self._rows.refusal(slot.holder, count)
        if refused is not None:
            raise Overloaded(f"rows that wait here: {refused}")
        self._rows.take(slot.holder, count)

    @property
    def rows_free(self) -> int:
        """That may still be waiting here."""
        return self._rows.capacity - self._rows.used

    def give_rows(self, slot: SessionSlot, count: int) -> None:
        self._rows.give(slot.holder, count)

    def use(self, owner: PeerId, session_id: bytes, now: float) -> SessionSlot:
        """The owner's session, its lease renewed. Raises SessionFault, in the same words whatever the reason."""
        slot = self._slots.get(session_id)
        if slot is None or slot.owner != owner:
            raise SessionFault(
                f"no session {session_id.hex()[:8]} of yours is open here: it lapsed, or was never opened"
            )
        slot.lease_until = max(slot.lease_until, now + self._lease_seconds)
        return slot

    def find(self, session_id: bytes) -> SessionSlot:
        """A session, whoever asks; its lease is the owner's to renew. Raises SessionFault."""
        slot = self._slots.get(session_id)
        if slot is None:
            raise SessionFault(
                f"no session {session_id.hex()[:8]} of yours is open here: it lapsed, or was never opened"
            )
        return slot

    def shorten(self, owner: PeerId, until: float) -> None:
        """The owner's last connection ended: its sessions lapse at `until` unless it returns."""
        for slot in self:
            if slot.owner == owner:
                slot.lease_until = min(slot.lease_until, until)

    def close(self, slot: SessionSlot) -> None:
        if self._slots.get(slot.session_id) is slot:
            del self._slots[slot.session_id]
            self._give(slot)
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
