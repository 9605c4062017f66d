"""The whole model in this process: the same engine, no network. What every chain is compared with."""

from __future__ import annotations

from typing import Any

from swarm.client.heads import Compute
from swarm.engine.backends import Stage
from swarm.wire.rows import Rows
from swarm.wire.tensors import Tensor


class LocalSession:
    """A session over a stage that holds every layer; `step` as of a chain's session."""

    def __init__(self, stage: Stage, compute: Compute, max_rows: int) -> None:
        self._stage = stage
        self._compute = compute
        self._max_rows = max_rows
        self._cache: Any = None
        self.position = 0

    async def __aenter__(self) -> LocalSession:
        self._cache = self._stage.open(self._max_rows)
        return self

    async def __aexit__(self, *exc: object) -> None:
        # in the thread's own order, behind a step that the caller no longer waits for
        await self._compute.run(self._cache.close)

    async def step(self, rows: Rows, tensor: Tensor) -> Tensor:
        """Rows [count, hidden] at the session's position through all layers. Raises Overloaded beyond max_rows."""
        output = await self._compute.run(lambda: self._forward(rows, tensor))
        self.position += tensor.shape[0]
        return output

    def _forward(self, rows: Rows, tensor: Tensor) -> Tensor:
        taken = self._stage.rows(tensor)
        if rows is Rows.CHUNK:
            return self._stage.tensor(self._stage.chunk(self._cache, taken))
        return self._stage.tensor(self._stage.decode([(self._cache, taken)])[0])
