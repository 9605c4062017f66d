"""Joins the rows of all sessions for the one compute thread: decode rows share calls, prompt chunks slip between them.

Knows nothing of messages or peers. The event loop never computes: each batch is one call on the compute thread.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from swarm.engine.coalescing import Coalescing
from swarm.engine.promise import Promise
from swarm.errors import Overloaded
from swarm.wire.rows import Rows

MAX_BATCH_ROWS = 64  # decode rows of one call, where chunks go as they come; a longer replay goes on in the next

T = TypeVar("T")


class Compute(Protocol):
    """Runs a function where tensors are computed: one thread per device; inline in simulations."""

    async def run(self, function: Callable[[], T]) -> T: ...


class Stage(Protocol):
    """What the batcher needs of the engine's stage."""

    def chunk(self, cache: Any, rows: Any) -> Any: ...

    def decode(self, work: list[tuple[Any, Any]]) -> list[Any]: ...


@dataclass(slots=True, eq=False)
class Work:
    """Rows of one session on their way through the stage."""

    cache: Any
    position: int  # of the first row; the cache is rolled back to it
    rows: Any  # [count, hidden]
    count: int
    kind: Rows
    done: Promise[Any] = field(repr=False)
    taken: int = 0  # rows that are computed already, of more than one call takes
    parts: list[Any] = field(default_factory=list, repr=False)


class Batcher:
    """`async with Batcher(...)`, then `await submit(...)`."""

    def __init__(
        self,
        stage: Stage,
        compute: Compute,
        join: Callable[[list[Any]], Any],
        max_queue_rows: int,
        piece_rows: int | None = None,
    ) -> None:
        self._stage = stage
        self._compute = compute
        self._join = join  # parts of [count, hidden] -> one tensor
        self._max_queue_rows = max_queue_rows
        self._piece_rows = piece_rows  # of a chunk in one call, others having their turn between; None: all at once
        self._batch_rows = max(MAX_BATCH_ROWS, piece_rows or 0)
        self._decodes: deque[Work] = deque()
        self._chunks: deque[Work] = deque()
        self._gathering = Coalescing()  # of decode rows; members are the caches' ids
        self._computing: tuple[Work, ...] = ()  # taken from the queues
        self._task: asyncio.Task[None] | None = None
        self.queue_rows = 0
        self.rows_asked = 0  # of all steps that were taken, since the beginning

    async def __aenter__(self) -> Batcher:
        self._task = asyncio.create_task(self._run(), name="batcher")
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for work in (*self._computing, *self._decodes, *self._chunks):
            work.done.cancel()

    @property
    def step_seconds(self) -> float:
        """Recent time of one decode call."""
        return self._gathering.seconds

    @property
    def tasks(self) -> tuple[asyncio.Task[None], ...]:
        """The loop that runs until the batcher is left."""
        return (self._task,) if self._task else ()

    async def submit(self, cache: Any, position: int, rows: Any, count: int, kind: Rows) -> Any:
        """Take rows through the stage; returns rows of the same shape. Raises Overloaded when the queue is full."""
        if self._task is None or self._task.done():
            raise RuntimeError("the batcher does not run")
        if self.queue_rows + count > self._max_queue_rows:
            raise Overloaded(f"{self.queue_rows} rows are waiting here, which is the limit", retry_after=1.0)
        work = Work(cache, position, rows, count, kind, Promise())
        (self._decodes if kind is Rows.DECODE else self._chunks).append(work)
        self.queue_rows += count
        self.rows_asked += count
        self._gathering.arrived()
        return await work.done.wait()

    def forget(self, cache: Any) -> None:
        """The session ended: no row of it is expected."""
        self._gathering.forget(id(cache))

    async def _run(self) -> None:
        while True:
            await self._gathering.anybody(lambda: bool(self._decodes or self._chunks))
            if self._decodes:
                await self._gathering.company(lambda: {id(work.cache) for work in self._decodes})
                await self._decode(self._taken())
            if self._chunks:
                self._computing = (self._chunks.popleft(),)
                await self._chunk(self._computing[0])
            self._computing = ()  # nothing is kept in memory that was answered, in no variable either

    def _taken(self) -> list[tuple[Work, int]]:
        batch = self._take()
        self._computing = tuple(work for work, _ in batch)
        return batch

    def _take(self) -> list[tuple[Work, int]]:
        """Works with how many of their rows are computed now: first come, first served, so many in all."""
        batch: list[tuple[Work, int]] = []
        room = self._batch_rows
        while self._decodes and room:
            work = self._decodes.popleft()
            count = min(room, work.count - work.taken)
            batch.append((work, count))
            room -= count
        return batch

    async def _decode(self, batch: list[tuple[Work, int]]) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            results = await self._compute.run(lambda: self._decode_call(batch))
        except (
            Exception
        ) as error:  # a bug in the engine must reach the session it belongs to, and must not end the batcher
            if len(batch) == 1:
                self._fail(batch[0][0], error)
            for each in batch if len(batch) > 1 else ():
                await self._decode([each])
            return
        self._gathering.took({id(work.cache) for work, _ in batch}, loop.time() - began)
        for (work, count), rows in zip(batch, results, strict=True):
            self._took(work, count, rows, self._decodes)

    def _took(self, work: Work, count: int, rows: Any, queue: deque[Work]) -> None:
        """So many more of its rows are computed; for the rest it waits again."""
        work.taken += count
        work.parts.append(rows)
        self.queue_rows -= count
        if work.taken < work.count:
            queue.append(work)
        else:
            self._answer(work)

    def _answer(self, work: Work) -> None:
        """All its rows are computed."""
        if work.done.settled:
            return
        try:
            work.done.fulfil(work.parts[0] if len(work.parts) == 1 else self._join(work.parts))
        except Exception as error:  # as in _decode: there may be no memory for a long replay's rows
            work.done.fail(error)

    def _decode_call(self, batch: list[tuple[Work, int]]) -> list[Any]:
        """On the compute thread. Rolling back first makes the call repeatable, should a neighbour's rows have failed it."""
        for work, _ in batch:
            work.cache.rollback(work.position + work.taken)
        return self._stage.decode([(work.cache, work.rows[work.taken : work.taken + count]) for work, count in batch])

    async def _chunk(self, work: Work) -> None:
        count = work.count - work.taken
        if self._piece_rows is not None:
            count = min(count, self._piece_rows)

        def call() -> Any:
            work.cache.rollback(work.position + work.taken)
            whole = count == work.count
            return self._stage.chunk(work.cache, work.rows if whole else work.rows[work.taken : work.taken + count])

        try:
            rows = await self._compute.run(call)
        except Exception as error:  # as in _decode
            self._fail(work, error)
            return
        self._took(work, count, rows, self._chunks)

    def _fail(self, work: Work, error: Exception) -> None:
        self.queue_rows -= work.count - work.taken
        work.done.fail(error)
