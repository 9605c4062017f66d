"""Steps of sessions: each is computed once, in the order of its session, told to whoever asks for it, and handed on.

A step is brought by the session's owner, who waits for its rows, or it is pushed by whoever does not wait: then the owner expects
it, or asks some rows later. A repeated step is answered from memory. Knows nothing of opening and closing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from swarm.config import WorkerConfig
from swarm.engine import chunk_rows
from swarm.engine.backends import Stage
from swarm.engine.compute_thread import lacks_memory
from swarm.engine.row_tensors import Rows as EngineRows
from swarm.errors import LocalFault, Overloaded, SessionFault, SwarmError
from swarm.wire.faults import fault_of
from swarm.wire.messages import Expect, Fault, Forward, Load, Push, Result, Working
from swarm.wire.rows import Rows
from swarm.wire.tensors import Tensor
from swarm.worker.batcher import Batcher
from swarm.worker.edges import Edges
from swarm.worker.positions import check_position, check_rows
from swarm.worker.receipts import Signer
from swarm.worker.sessions import SessionSlot, SessionTable

# Steps of one session that are under way at once, and owners' questions for those that are still to come
MAX_AHEAD = 16

logger = logging.getLogger(__name__)


class Exchange(Protocol):
    """The worker's side of one request, as far as a step is concerned."""

    @property
    def closed(self) -> bool: ...

    def progress(self, message: Working) -> None: ...


class Steps:
    """Of all sessions of a worker."""

    def __init__(
        self,
        stage: Stage,
        batcher: Batcher,
        sessions: SessionTable,
        signer: Signer,
        edges: Edges,
        config: WorkerConfig,
        load: Callable[[], Load],
        *,
        any_cut: bool,
    ) -> None:
        self._stage = stage
        self._batcher = batcher
        self._sessions = sessions
        self._signer = signer
        self._edges = edges
        self._config = config
        self._load = load
        self._any_cut = any_cut
        self._running: dict[bytes, dict[int, asyncio.Task[Result]]] = {}  # by session and step
        self._turns: dict[bytes, asyncio.Lock] = {}  # of sessions whose steps are under way
        self._arrivals: dict[
            bytes, dict[int, set[asyncio.Future[None]]]
        ] = {}  # who waits for steps, by session and step
        self._closed = False

    def __len__(self) -> int:
        """Steps under way."""
        return sum(map(len, self._running.values()))

    async def close(self) -> None:
        """What is under way is dropped, and nothing is expected any more."""
        self._closed = True
        for session_id in tuple(self._arrivals):
            self._wake(session_id)
        tasks = [task for steps in self._running.values() for task in steps.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def answer(self, slot: SessionSlot, message: Forward, exchange: Exchange) -> Result:
        """The owner's rows. Raises SessionFault, UsageFault, Gap, Overloaded."""
        known = slot.results.get(message.step)
        if known is None or known.position != message.position:
            known = await self._finish(slot, message, exchange)
        return with_owed(slot, known, message.owed)

    async def _finish(self, slot: SessionSlot, message: Forward, exchange: Exchange) -> Result:
        running = self._running.get(slot.session_id, {}).get(message.step) or self._begin(slot, message)
        try:
            return await self._told(slot, message.step, running, exchange)
        finally:
            # An exception holds the frames that it passed: one that held the task would keep it, with its rows, until a
            # full collection
            del running

    def take(self, slot: SessionSlot, message: Push) -> None:
        """Rows that nobody waits for. What becomes of them, errors too, hears whoever expects them."""
        running = self._running.get(slot.session_id, {})
        if message.step not in slot.results and message.step not in running:
            try:
                self._begin(slot, message)
            except SwarmError as error:
                self._refuse(slot, message.step, error)

    async def expect(self, slot: SessionSlot, message: Expect, exchange: Exchange) -> Result | Fault:
        """The owner waits for a step that is pushed. Raises as `answer` does."""
        session_id, step = slot.session_id, message.step
        while (result := slot.results.get(step)) is None:
            running = self._running.get(session_id, {}).get(step)
            if running is not None:
                try:
                    result = await self._told(slot, step, running, exchange)
                    break
                finally:
                    del running  # as in `_finish`
            if slot.failed is not None and slot.failed[0] == step:
                return slot.failed[1]
            if step <= slot.step or slot.closed or exchange.closed or self._closed:
                raise SessionFault(f"step {step} of session {slot!r} has not come, and what came later has begun")
            await self._arrival(slot, step, exchange)
        return with_owed(slot, result, message.owed)

    async def _arrival(self, slot: SessionSlot, step: int, exchange: Exchange) -> None:
        """Wait a while for a step to begin, or for another that shows that it will not."""
        expected = self._arrivals.setdefault(slot.session_id, {})
        if len(expected) >= MAX_AHEAD and step not in expected:
            raise SessionFault(f"{len(expected)} steps of session {slot!r} are expected already")
        arrival: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = expected.setdefault(step, set())
        waiting.add(arrival)
        try:
            await asyncio.wait({arrival}, timeout=self._config.working_seconds)
        finally:
            waiting.discard(arrival)
            if not waiting and expected.get(step) is waiting:
                del expected[step]
            if not expected and self._arrivals.get(slot.session_id) is expected:
                del self._arrivals[slot.session_id]
        if not arrival.done():
            exchange.progress(Working(slot.session_id, step, self._batcher.queue_rows, waiting=True))

    def _arrived(self, session_id: bytes, step: int) -> None:
        """That step begins, or is refused: who expects it, or an older one, is to look."""
        expected = self._arrivals.get(session_id, {})
        for each in [each for each in expected if each <= step]:
            for arrival in expected.pop(each):
                arrival.set_result(None)

    def forget(self, slot: SessionSlot) -> None:
        """The session was closed."""
        self._wake(slot.session_id)

    def _wake(self, session_id: bytes) -> None:
        """Whoever waits for a step of that session is to look."""
        for waiting in self._arrivals.pop(session_id, {}).values():
            for arrival in waiting:
                arrival.set_result(None)

    async def _told(self, slot: SessionSlot, step: int, running: asyncio.Task[Result], exchange: Exchange) -> Result:
        try:
            while not running.done():
                await asyncio.wait({running}, timeout=self._config.working_seconds)
                if not running.done():
                    exchange.progress(Working(slot.session_id, step, self._batcher.queue_rows))
            return running.result()
        finally:
            del running  # as in `_finish`

    def _begin(self, slot: SessionSlot, message: Forward | Push) -> asyncio.Task[Result]:
        """A step that was not seen before, behind those of its session that are under way. Its rows count from now on.

        Raises SessionFault, Overloaded.
        """
        running = self._running.get(slot.session_id, {})
        if message.step < max(running, default=slot.step) or len(running) >= MAX_AHEAD:
            raise SessionFault(f"step {message.step} of session {slot!r} is out of order")
        self._sessions.take_rows(slot, message.tensor.shape[0])
        self._running[slot.session_id] = running
        task = asyncio.create_task(self._step(slot, message), name=f"step {message.step}")
        running[message.step] = task
        task.add_done_callback(lambda done: self._ended(slot, message, done))
        self._arrived(slot.session_id, message.step)
        return task

    def _ended(self, slot: SessionSlot, message: Forward | Push, task: asyncio.Task[Result]) -> None:
        session_id, step = slot.session_id, message.step
        self._sessions.give_rows(slot, message.tensor.shape[0])
        running = self._running.get(session_id, {})
        if running.get(step) is task:
            del running[step]
        if not running:
            self._running.pop(session_id, None)
            self._turns.pop(session_id, None)
        error = None if task.cancelled() else task.exception()  # marked as seen: nobody may be waiting for it
        if isinstance(error, SwarmError):
            self._refuse(slot, step, error)
        elif error is not None and isinstance(message, Push):  # of a Forward's whoever answers it tells
            if lacks_memory(error):
                self._refuse(slot, step, Overloaded("memory for these rows cannot be had here"))
            else:
                logger.error("step %d of session %r failed here", step, slot, exc_info=error)
                self._refuse(slot, step, LocalFault("the step failed on this side; its log says why"))

    def _refuse(self, slot: SessionSlot, step: int, error: SwarmError) -> None:
        """Kept as what an owner is told who asks late: an error would hold the frames that it passed, and the rows in them."""
        slot.failed = step, fault_of(error, slot.session_id)
        self._arrived(slot.session_id, step)

    async def _step(self, slot: SessionSlot, message: Forward | Push) -> Result:
        async with self._turns.setdefault(slot.session_id, asyncio.Lock()):
            rows = self._checked(slot, message)
            result: Result | None = None
            try:
                result = await self._computed(slot, message, rows)
                return result
            finally:  # however it ended, so that a failed or cancelled one frees its session for a repetition
                slot.finish(result)

    def _checked(self, slot: SessionSlot, message: Forward | Push) -> EngineRows:
        """Its turn has come. Raises SessionFault, UsageFault, Gap, Overloaded."""
        if slot.closed:
            raise SessionFault("the session was closed before its step was computed")
        if slot.busy or message.step < slot.step:
            raise SessionFault(f"step {message.step} of session {slot!r} is out of order")
        stage = self._stage
        check_rows(message, chunk_rows(stage.spec), stage.spec.both_ways, self._any_cut)
        rows = stage.rows(message.tensor)
        check_position(slot, message)
        count = rows.shape[0]
        self._sessions.reach(slot, message.position + count, stage.spec.max_positions, stage.pool.needed)
        slot.begin(message.step)
        return rows

    async def _computed(self, slot: SessionSlot, message: Forward | Push, rows: EngineRows) -> Result:
        computed = await self._batcher.submit(slot.cache, message.position, rows, rows.shape[0], message.rows)
        if slot.closed:
            raise SessionFault("the session was closed while its step was computed")
        if computed.shape != rows.shape:
            raise LocalFault(f"the stage turned rows {tuple(rows.shape)} into {tuple(computed.shape)}")
        outputs = self._stage.tensor(computed)
        onward = self._edges.hand_on(slot, message, outputs)
        receipt = await self._signer.take(slot, message, outputs)
        step, position = message.step, message.position
        return Result(slot.session_id, step, position, message.rows, outputs, self._load(), receipt, onward)


def with_owed(slot: SessionSlot, result: Result, owed: int) -> Result:
    """A step's answer, with those of so many decode rows before it that nobody was told. Raises SessionFault."""
    if not owed:
        return result
    start = at = result.position - owed
    found: list[Result] = []
    for each in slot.results.values():
        if start <= each.position < result.position and each.rows is Rows.DECODE and each.position == at:
            found.append(each)
            at += each.tensor.shape[0]
    if at != result.position or result.rows is not Rows.DECODE:
        raise SessionFault(f"rows {start} to {result.position - 1} of session {slot!r} are not kept here any more")
    found.append(result)
    data = memoryview(b"".join(each.tensor.data for each in found))
    shape = (owed + result.tensor.shape[0], *result.tensor.shape[1:])
    receipt = next((each.receipt for each in reversed(found) if each.receipt is not None), None)
    return replace(result, position=start, tensor=Tensor(result.tensor.dtype, shape, data), receipt=receipt)
