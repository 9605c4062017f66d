"""The whole model in this process: the same engine, no network. What every chain is compared with."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from random import uniform
from typing import Any

from swarm.client.failover.patience import GROWTH_PAUSE, GROWTH_SECONDS
from swarm.client.heads import Compute
from swarm.client.prefixes.cache import Prompt
from swarm.client.prefixes.local import LocalPrefixes
from swarm.client.room import Room
from swarm.engine.backends import Model, Stage
from swarm.errors import NoRoom, Overloaded, UsageFault
from swarm.wire.rows import Rows
from swarm.wire.tensors import Tensor

GROWTH_ROWS = 256  # that a session's cache grows by if there is room, or a quarter of it: growing copies what is there


LOCAL_PRECISION = "bf16"  # unless another is asked for
CacheBytes = Callable[[Model, str], int]  # that caches of a model in a precision may take on this machine
LocalPrecision = Callable[[Model], str]  # that a model is computed in on this machine


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model all of whose layers are here, and what is kept of sessions that have ended."""

    stage: Stage
    compute: Compute
    prefixes: LocalPrefixes

    def session(self, room: Room, prompt: Prompt | None = None) -> LocalSession:
        """To be entered."""
        return LocalSession(self.stage, self.compute, room, self.prefixes, prompt)


def default_precision(opened: Model) -> str:
    """Of a program that chooses none."""
    return LOCAL_PRECISION


async def load_local(
    opened: Model,
    compute: Compute,
    precision: str,
    device: str,
    numerics: str,
    cache_bytes: CacheBytes | None,
    max_kept: int,
) -> LocalModel:
    """Every layer. Raises ModelFault, UsageFault."""

    def load() -> Stage:
        size = None if cache_bytes is None else cache_bytes(opened, precision)
        return opened.load_stage(precision=precision, device=device, cache_bytes=size, numerics=numerics)

    stage = await compute.run(load)
    return LocalModel(stage, compute, LocalPrefixes(stage, max_kept))


class LocalSession:
    """A session over a stage that holds every layer; `step` as of a chain's session.

    With `kept` it may hold the first rows of its prompt already, and others may begin with its rows. Caches are opened, extended
    and closed where they are computed, so that their budget has one thread.
    """

    def __init__(
        self,
        stage: Stage,
        compute: Compute,
        room: Room,
        kept: LocalPrefixes | None = None,
        prompt: Prompt | None = None,
    ) -> None:
        self._stage = stage
        self._compute = compute
        self._room = room
        self._kept = kept
        self._prompt = prompt if kept is not None else None
        self._cache: Any = None
        self.position = 0

    async def __aenter__(self) -> LocalSession:
        """Raises Overloaded where others hold the room, NoRoom where the prompt could never have it."""
        try:
            await self._compute.run(self._open)
        except BaseException:  # a caller who left is followed by the call that began
            await self._compute.run(self._close)
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        # in the thread's own order, behind a step that the caller no longer waits for
        await self._compute.run(self._close)

    def _open(self) -> None:
        pool, span = self._stage.pool, self._stage.span
        usual, needed = self._room.wishes()
        if pool.needed(needed, span) > pool.budget:
            raise NoRoom("the cache of this process is too small for the prompt", pool.tokens_of(pool.budget))
        rows = usual if self._freed(pool.needed(usual, span)) else needed
        self._freed(pool.needed(rows, span))
        if self._kept is not None and self._prompt is not None:
            self._cache = self._kept.begin(self._prompt, rows)
        if self._cache is None:
            self._cache = self._stage.open(rows)
        self.position = self._cache.position

    def _freed(self, size: int) -> bool:
        """Whether so many bytes are there now; for their sake sessions that have ended are kept no more."""
        if self._kept is not None:
            self._kept.make_room(size, self._prompt)
        return size <= self._stage.pool.budget - self._stage.pool.reserved

    def _close(self) -> None:
        cache, self._cache = self._cache, None
        if cache is None:
            return
        if self._kept is not None and self._prompt is not None and self._prompt.answered():
            self._kept.keep(self._prompt, cache)
        else:
            cache.close()

    async def prompt(self, tensors: AsyncIterator[Tensor]) -> Tensor:
        """As of a chain's session."""
        last = None
        async for tensor in tensors:
            last = await self.step(Rows.CHUNK, tensor)
        if last is None:
            raise UsageFault("a prompt without a row")
        return last

    async def step(self, rows: Rows, tensor: Tensor) -> Tensor:
        """Rows [count, hidden] at the session's position through all layers. Raises NoRoom where the cache cannot grow."""
        reached = self.position + tensor.shape[0]
        if reached > self._cache.max_rows:
            await self._reach(reached)
        output = await self._compute.run(lambda: self._forward(rows, tensor))
        self.position = reached
        return output

    async def _reach(self, rows: int) -> None:
        """Room for rows up to that position; others that have some are waited for a little."""
        loop = asyncio.get_running_loop()
        shortest, longest = GROWTH_SECONDS
        until = loop.time() + uniform(shortest, longest)  # of those that wait for each other's rows, one gives up first
        while refused := await self._compute.run(lambda: self._extend(rows)):
            if math.isinf(refused.retry_after) or loop.time() >= until:
                break
            await asyncio.sleep(min(GROWTH_PAUSE, until - loop.time()))
        else:
            return
        raise NoRoom(f"the cache of this process has no room for row {rows - 1} of this session", rows - 1)

    def _extend(self, rows: int) -> Overloaded | None:
        """Why there is no room; None: there is."""
        pool, span = self._stage.pool, self._stage.span
        refused = None
        for wanted in (max(rows, min(self._room.most, rows + max(GROWTH_ROWS, rows // 4))), rows):
            self._freed(pool.needed(wanted, span) - pool.needed(self._cache.max_rows, span))
            try:
                self._cache.extend(wanted)
                return None
            except Overloaded as error:
                refused = error
        return refused

    def _forward(self, rows: Rows, tensor: Tensor) -> Tensor:
        taken = self._stage.rows(tensor)
        if rows is Rows.CHUNK:
            return self._stage.tensor(self._stage.chunk(self._cache, taken))
        return self._stage.tensor(self._stage.decode([(self._cache, taken)])[0])
