"""Answers messages: opens sessions, checks owner, step and position, has rows computed, says how busy the worker is.

The rules of a session are in `sessions`, the order of computing in `batcher`; the channel turns the errors raised here into
Fault replies. Knows nothing of sockets or of the directory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from swarm.config import WorkerConfig
from swarm.engine import CHUNK_ROWS
from swarm.engine.backends import Stage
from swarm.engine.compute_thread import lacks_memory
from swarm.engine.row_tensors import join_rows
from swarm.errors import Draining, Overloaded, SessionFault, SwarmError, UsageFault, WrongModel
from swarm.identity import Identity, PeerId
from swarm.precision import any_cut
from swarm.records import ModelRef
from swarm.shares import Holder
from swarm.trace import Trace
from swarm.transport.memory_trim import MemoryTrim
from swarm.wire.messages import (
    Attach,
    Close,
    Closed,
    Connect,
    Connected,
    Expect,
    Fault,
    Forward,
    Load,
    Message,
    Open,
    Opened,
    Push,
    Renew,
    Result,
    Working,
)
from swarm.wire.receipts import Receipt
from swarm.wire.rows import SESSION_ID_BYTES
from swarm.worker.batcher import Batcher, Compute
from swarm.worker.copies import Copies
from swarm.worker.edges import Edges, check_predecessor
from swarm.worker.neighbours import Neighbours
from swarm.worker.receipts import Signer
from swarm.worker.sessions import SessionSlot, SessionTable
from swarm.worker.steps import Steps


class Exchange(Protocol):
    """The worker's side of one request."""

    @property
    def peer_id(self) -> PeerId: ...

    @property
    def holder(self) -> Holder: ...

    @property
    def closed(self) -> bool: ...

    def progress(self, message: Working) -> None: ...


class WorkerService:
    """`async with WorkerService(...)`; `handle` is the channel server's handler."""

    def __init__(
        self,
        stage: Stage,
        model: ModelRef,
        compute: Compute,
        identity: Identity,
        config: WorkerConfig | None = None,
        trace: Trace | None = None,
        neighbours: Neighbours | None = None,
    ) -> None:
        self.stage = stage
        self.model = model
        self.config = config or WorkerConfig()
        self.draining = False
        self._stopped = False
        self._trace = trace or Trace()
        self._sessions = SessionTable(self.config, stage.pool.budget)
        self._signer = Signer(identity, model.digest)
        self._compute = compute
        self._copies = Copies(stage, compute, self._signer, self._end)
        self._any_cut = any_cut(stage.numerics) and not stage.spec.both_ways
        pieces = CHUNK_ROWS if self._any_cut else None
        self._batcher = Batcher(stage, compute, join_rows, self.config.max_queue_rows, pieces)
        self._edges = Edges(neighbours, self._trace)
        self._steps = Steps(
            stage,
            self._batcher,
            self._sessions,
            self._signer,
            self._edges,
            self.config,
            self.load,
            any_cut=self._any_cut,
        )
        self._emptied = asyncio.Event()
        self._memory_trim = MemoryTrim()
        self._reaper: asyncio.Task[None] | None = None
        self._now: Callable[[], float] = lambda: 0.0

    async def __aenter__(self) -> WorkerService:
        self._now = asyncio.get_running_loop().time
        await self._batcher.__aenter__()
        self._reaper = asyncio.create_task(self._reap(), name="leases")
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._reaper is not None
        self._stopped = True
        self._reaper.cancel()
        await asyncio.gather(self._reaper, return_exceptions=True)
        await self._copies.close()
        await self._steps.close()
        await self._edges.close()
        await self._batcher.__aexit__(*exc)
        self._sessions.close_all()
        self._memory_trim.close()

    @property
    def tasks(self) -> tuple[asyncio.Task[None], ...]:
        """Loops that run until the service is left."""
        assert self._reaper is not None
        return (self._reaper, *self._batcher.tasks)

    @property
    def kept_bytes(self) -> int:
        """Of the cache, held for sessions that have ended."""
        return self._sessions.kept_bytes

    @property
    def rows_asked(self) -> int:  # that came to be computed, since the beginning
        return self._batcher.rows_asked

    def knows(self, session_id: bytes) -> bool:
        """Whether a session of that name is open here, or kept."""
        try:
            self._sessions.find(session_id)
        except SessionFault:
            return False
        return True

    def resize(self, cache_bytes: int) -> None:
        """Caches have so many bytes from now on; sessions that hold more keep it."""
        self.stage.pool.budget = cache_bytes
        self._sessions.resize(cache_bytes)

    def load(self) -> Load:
        """What is kept of sessions that have ended counts as free. Where nothing is cached, rows may wait."""
        pool = self.stage.pool
        cached = pool.tokens_of(pool.budget - pool.reserved + self.kept_bytes)
        return Load(
            queue_rows=self._batcher.queue_rows,
            sessions=len(self._sessions),
            cache_tokens_free=self._sessions.rows_free if self.stage.spec.both_ways else cached,
            step_seconds=self._batcher.step_seconds,
        )

    async def handle(self, message: Message, exchange: Exchange) -> Message:
        """One request, one reply. Raises SwarmError for what becomes a Fault."""
        try:
            return await self._answer(message, exchange)
        except Exception as error:  # from wherever memory is asked for: who lacks it is overloaded, not broken
            if not lacks_memory(error):
                raise
            self._trace.failed("worker.memory", peer=exchange.peer_id.short, error=str(error))
            raise Overloaded("memory for this request cannot be had here") from error

    async def _answer(self, message: Message, exchange: Exchange) -> Message:
        if self._stopped:
            raise Draining("this worker has stopped")
        if exchange.closed and not isinstance(message, Close):
            # it arrived with the end of its connection, whose sessions were given a short lease just now
            raise SessionFault("the connection that this request came by has ended")
        match message:
            case Forward():
                return await self._forward(message, exchange)
            case Open():
                return await self._open(message, exchange.holder)
            case Expect():
                return await self._expect(message, exchange)
            case Connect():
                return await self._connect(message, exchange.peer_id)
            case Attach():
                return self._attach(message, exchange.peer_id)
            case Renew():
                return self._renew(message, exchange.peer_id)
            case Close():
                return self._close(message, exchange.peer_id)
        raise UsageFault(f"a worker answers no {type(message).__name__}")

    def connection_lost(self, peer_id: PeerId) -> None:
        """The last connection of a peer ended: its sessions wait a little for its return, then go."""
        self._sessions.shorten(peer_id, self._now() + self.config.orphan_seconds)

    def drain(self) -> None:
        """Take no new sessions, and drop those that have ended."""
        self.draining = True
        for slot in self._sessions.kept():
            self._end(slot)

    async def drained(self) -> None:
        """Returns when no session is left that has not ended."""
        while len(self._sessions):
            self._emptied.clear()
            await self._emptied.wait()

    def _check_opening(self, message: Open) -> None:
        if self.draining:
            raise Draining("this worker is shutting down and takes no new sessions")
        if len(message.session_id) != SESSION_ID_BYTES:
            raise UsageFault(f"a session id has {SESSION_ID_BYTES} bytes, not {len(message.session_id)}")
        if message.model_digest != self.model.digest:
            raise WrongModel(
                f"this worker serves {self.model.name} {self.model.digest.hex()}, not {message.model_digest.hex()}"
            )
        if message.precision != self.stage.precision:
            raise WrongModel(f"this worker computes in {self.stage.precision}, not {message.precision}")
        if not self.stage.span.covers(message.span):
            raise WrongModel(f"this worker holds layers {self.stage.span}, not {message.span}")
        if not 0 < message.max_rows <= self.stage.spec.max_positions:
            raise UsageFault(f"{message.max_rows} rows: the model's context is {self.stage.spec.max_positions}")

    async def _open(self, message: Open, holder: Holder) -> Opened:
        self._check_opening(message)
        parent, rows = self._parent(message, holder.peer)
        needed = self.stage.pool.needed(message.max_rows, message.span)
        self._sessions.admit(holder, message.session_id, needed)
        self._sessions.make_room(holder, needed, parent)
        cache = self.stage.open(message.max_rows, message.span)
        slot = self._sessions.add(holder, message.session_id, cache, message.max_rows, self._now(), needed)
        self._signer.begin(slot, message.span, self.stage.numerics)
        self._trace.complete(
            "worker.open", session=slot.session_id.hex()[:8], owner=slot.owner.short, layers=message.span
        )
        return self._opened(slot, None if parent is None else await self._copies.begin(slot, parent, rows))

    def _parent(self, message: Open, owner: PeerId) -> tuple[SessionSlot | None, int]:
        """The session whose rows the new one begins with, and how many. Raises SessionFault, UsageFault."""
        if message.parent is None:
            return None, 0
        if self.stage.spec.both_ways:
            raise UsageFault("no text begins with rows of another: each of its rows sees those that follow")
        if message.parent == message.session_id or not 0 < message.parent_rows <= message.max_rows:
            raise UsageFault(
                f"a session of {message.max_rows} rows cannot begin with {message.parent_rows} of that one"
            )
        parent = self._sessions.use(owner, message.parent, self._now())
        tally = parent.tally
        rows = parent.cache.beginning(message.parent_rows)
        held = tally is not None and tally.span == message.span and tally.stop >= rows > 0
        if not held or message.parent_rows > parent.cache.position:
            raise SessionFault(f"{parent!r} has no {message.parent_rows} rows of layers {message.span} to begin with")
        if parent.kept_at is not None:
            parent.kept_at = self._now()
        return parent, rows

    def _renew(self, message: Renew, owner: PeerId) -> Opened:
        slot = self._sessions.use(owner, message.session_id, self._now())
        if not message.idle:
            return self._opened(slot)
        if self.draining:
            self._end(slot)
            raise SessionFault("this worker is shutting down and keeps no sessions that have ended")
        receipt = self._signer.rest(slot)
        self._batcher.forget(slot.cache)
        try:
            self._sessions.keep(slot, self._now())
        finally:
            self._look_if_empty()
        return self._opened(slot, receipt)

    def _opened(self, slot: SessionSlot, receipt: Receipt | None = None) -> Opened:
        return Opened(
            slot.session_id,
            self.config.lease_seconds,
            self.stage.numerics,
            self.load(),
            slot.cache.position,
            receipt,
        )

    def _close(self, message: Close, owner: PeerId) -> Closed:
        try:
            slot = self._sessions.use(owner, message.session_id, self._now())
        except SessionFault:
            return Closed(message.session_id)  # closing twice is no fault
        self._end(slot)
        return Closed(message.session_id, self._signer.rest(slot))

    def _end(self, slot: SessionSlot) -> None:
        self._sessions.close(slot)
        self._steps.forget(slot)
        self._batcher.forget(slot.cache)
        self._look_if_empty()

    def _look_if_empty(self) -> None:
        if not len(self._sessions):
            self._emptied.set()

    def push(self, message: Push, peer_id: PeerId) -> None:
        """Rows that need no answer. Who may not push them hears nothing; the session's owner misses them."""
        if self._stopped:
            return
        try:
            if message.epoch:  # of an edge: no owner's
                slot = self._sessions.find(message.session_id)
                check_predecessor(slot, message, peer_id)
            else:
                slot = self._sessions.use(peer_id, message.session_id, self._now())
            self._check_running(slot)
            self._steps.take(slot, message)
        except SwarmError as error:
            self._trace.failed("worker.push", peer=peer_id.short, step=message.step, error=str(error))

    async def _forward(self, message: Forward, exchange: Exchange) -> Result:
        slot = self._sessions.use(exchange.peer_id, message.session_id, self._now())
        self._check_running(slot)
        return await self._steps.answer(slot, message, exchange)

    async def _expect(self, message: Expect, exchange: Exchange) -> Result | Fault:
        slot = self._sessions.use(exchange.peer_id, message.session_id, self._now())
        self._check_running(slot)
        return await self._steps.expect(slot, message, exchange)

    def _check_running(self, slot: SessionSlot) -> None:
        if slot.kept_at is not None:
            raise SessionFault(f"{slot!r} has ended and takes no more rows")

    async def _connect(self, message: Connect, owner: PeerId) -> Connected:
        return await self._edges.connect(self._sessions.use(owner, message.session_id, self._now()), message)

    def _attach(self, message: Attach, peer_id: PeerId) -> Connected:
        slot = self._sessions.find(message.session_id)
        self._check_running(slot)
        return self._edges.attach(slot, message, peer_id)

    async def _reap(self) -> None:
        """Lapsed leases, looked at four times within the shortest of them."""
        while True:
            await asyncio.sleep(min(self.config.orphan_seconds, self.config.lease_seconds) / 4)
            for slot in self._sessions.expire(self._now()):
                self._trace.complete("worker.lapse", session=slot.session_id.hex()[:8])
                self._end(slot)
            self._memory_trim.holds(self.stage.pool.reserved)
