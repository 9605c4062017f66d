"""Moves a worker whose layers the swarm chooses to where it is needed more, one mover at a time among the same layers.

Now and then it looks at what everybody holds. If another span is worth the move (`routing.balance`), it claims that in its
record, listens for others who claim the same layers, and goes if it comes first; never from layers that nobody else serves.
Whatever fails, it serves what it served before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from typing import Protocol

from swarm.config import WorkerConfig
from swarm.errors import SwarmError
from swarm.records import Moving, PeerRecord
from swarm.routing.balance import Claim
from swarm.routing.moves import goes_first, left_alone, unclaimed
from swarm.routing.placement import better_span
from swarm.span import LayerSpan
from swarm.trace import Trace

JITTER = 0.25  # of the time between two looks, more or less: workers that came at once do not stay in step
FAILED_LOOKS = 10  # after a move that failed, before the next is considered


class Holder(Protocol):
    """What is moved, see `holding`."""

    @property
    def serving(self) -> bool: ...

    @property
    def span(self) -> LayerSpan: ...

    @property
    def spans(self) -> Sequence[LayerSpan]: ...

    @property
    def record(self) -> PeerRecord: ...

    async def others(self) -> list[PeerRecord]: ...

    async def claim(self, moving: Moving | None) -> bool: ...

    def fits_beside(self, span: LayerSpan) -> bool: ...

    async def prepare(self, span: LayerSpan) -> None: ...

    async def discard(self) -> None: ...

    async def switch(self) -> None: ...

    async def vacate(self, span: LayerSpan) -> None: ...

    async def settle(self) -> None: ...


class Mover:
    """`await run()` considers moving every `config.move_every` seconds; it raises what leaves the worker without layers."""

    def __init__(
        self,
        holder: Holder,
        config: WorkerConfig,
        now: Callable[[], float],  # swarm time
        dice: Random,
        trace: Trace,
        progress: Callable[[str], None],
    ) -> None:
        self._holder = holder
        self._config = config
        self._now = now
        self._dice = dice
        self._trace = trace
        self._progress = progress
        self._resting = 0  # looks at which nothing is considered

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._config.move_every * self._dice.uniform(1 - JITTER, 1 + JITTER))
            if self._resting:
                self._resting -= 1
                continue
            try:
                await self.consider()
            except (SwarmError, MemoryError, OSError) as error:  # of files, of memory, of a swarm that is out of reach
                if not self._holder.serving:
                    raise
                self._resting = FAILED_LOOKS
                self._trace.failed("worker.move", error=str(error))
                self._progress(f"not moved: {error}")

    async def consider(self) -> bool:
        """Look once; whether the worker has moved. Raises what loading raises, and SwarmError."""
        holder = self._holder
        span = self._wanted(await holder.others())
        if span is None:
            return False
        since, old = self._now(), holder.span
        claim, moved = Claim(holder.record.peer_id, old, span), False
        others = await holder.others()
        if not unclaimed(claim, others, since):
            return False
        try:
            if not await holder.claim(Moving(since, span)):
                return False  # nobody heard it, so nobody would keep out of the way
            await asyncio.sleep(self._config.claim_seconds)
            others = await holder.others()
            if self._wanted(others) == span and goes_first(claim, since, others, self._now()):
                moved = await self._move(old, span, others)
        finally:
            if not moved:
                await holder.claim(None)
        return moved

    def _wanted(self, others: Sequence[PeerRecord]) -> LayerSpan | None:
        """Where the worker should go, by what it has heard."""
        holder, now = self._holder, self._now()
        span = better_span(holder.record, others, holder.spans, now)
        if span is None or (not holder.fits_beside(span) and left_alone(holder.span, None, others, now)):
            return None  # nobody may be without layers, not even while others are loaded in their place
        return None if left_alone(holder.span, span, others, now) else span

    async def _move(self, old: LayerSpan, span: LayerSpan, others: Sequence[PeerRecord]) -> bool:
        holder = self._holder
        self._progress(f"moving from layers {old} to {span}, where more is needed")
        if holder.fits_beside(span):
            if not await self._prepared_beside(old, span):
                return False
        else:
            await holder.vacate(span)
            try:
                await holder.prepare(span)
            except Exception:
                await self._back(old)
                raise
        await holder.switch()
        self._trace.complete("worker.move", old=str(old), new=str(span))
        self._progress(f"moved from layers {old} to {span}")
        await holder.settle()
        return True

    async def _prepared_beside(self, old: LayerSpan, span: LayerSpan) -> bool:
        """Whether the new span is loaded, and the old one may still be given up: loading took a while."""
        holder, ready = self._holder, False
        try:
            await holder.prepare(span)
            alone = left_alone(old, span, await holder.others(), self._now())
            ready = not alone
            if alone:
                self._progress(f"stays at layers {old}: others who held them have left")
        finally:
            if not ready:
                await holder.discard()
        return ready

    async def _back(self, old: LayerSpan) -> None:
        """The new span cannot be had, and the old one is given up already: it is loaded again."""
        await self._holder.prepare(old)
        await self._holder.switch()
        await self._holder.settle()
