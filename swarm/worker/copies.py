"""Sessions that begin with the first rows of another: these are copied from its cache on the compute thread, and signed anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from swarm.engine.backends import Stage
from swarm.errors import SessionFault
from swarm.wire.receipts import Receipt
from swarm.worker.batcher import Compute
from swarm.worker.receipts import Signer
from swarm.worker.sessions import SessionSlot


class Copies:
    """Of all sessions of a worker."""

    def __init__(self, stage: Stage, compute: Compute, signer: Signer, end: Callable[[SessionSlot], None]) -> None:
        self._stage = stage
        self._compute = compute
        self._signer = signer
        self._end = end  # a session that could not be given its rows
        self._tasks: set[asyncio.Task[None]] = set()  # at most one for each session

    async def close(self) -> None:
        """What is under way is dropped."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def begin(self, slot: SessionSlot, parent: SessionSlot, rows: int) -> Receipt:
        """Give a new session the first rows of another, and sign them. They are copied to the end even if nobody waits.

        Raises SessionFault if it was closed meanwhile.
        """
        slot.busy = True
        parent.lend()
        task = asyncio.create_task(self._copy(slot, parent, rows), name="copy")
        self._tasks.add(task)

        def ended(done: asyncio.Task[None]) -> None:
            self._tasks.discard(done)
            parent.lent()
            slot.finish(None)
            if done.cancelled() or done.exception() is not None:
                self._end(slot)

        task.add_done_callback(ended)
        try:
            await asyncio.wait({task})
            task.result()
        finally:
            del task  # an exception holds the frames that it passed, and would keep it
        if slot.closed:
            raise SessionFault("the session was closed while it was given its first rows")
        return self._signer.branch(slot, parent, rows)

    async def _copy(self, slot: SessionSlot, parent: SessionSlot, rows: int) -> None:
        cache: Any = slot.cache
        source: Any = parent.cache
        for layers in self._stage.copies(rows, cache.span):
            await self._compute.run(partial(self._stage.copy, cache, source, rows, layers))
