"""Workers that take their time, in virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

from support.swarm import LocalWorker

STEP = 0.02  # seconds that a layer takes for 16 rows


class Slow:
    """A worker that computes one batch after the other."""

    def __init__(self, worker: LocalWorker, step: float = STEP) -> None:
        self._seconds = step * len(worker.span)
        self._one = asyncio.Lock()
        self._submit = worker.service._batcher.submit
        worker.service._batcher.submit = self._slowly  # type: ignore[method-assign]

    async def _slowly(self, cache: Any, position: int, rows: Any, count: int, kind: Any) -> Any:
        async with self._one:
            await asyncio.sleep(self._seconds * -(-count // 16))
        return await self._submit(cache, position, rows, count, kind)
