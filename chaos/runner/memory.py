"""Resident memory over time, and how fast it grows. Pure but for the gauge itself, which reads it of processes."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import median

import psutil

from chaos.farm import Member

SAMPLE_SECONDS = 2.0
WARM_UP_SECONDS = 120.0
JUDGED_SECONDS = 300.0  # a shorter stretch after the warm-up says nothing of ten minutes
PERIOD_SECONDS = 600.0  # growth is told for
ENDS = 5  # the first and the last fifth of the samples are compared
OWN = "client"  # this process

Sample = tuple[float, int]  # seconds of the monotonic clock, resident bytes


@dataclass(slots=True)
class Memory:
    """Samples by process: its name, and which life of it."""

    samples: dict[tuple[str, int], list[Sample]] = field(default_factory=dict)

    def growths(self, warm_up: float = WARM_UP_SECONDS, judged: float = JUDGED_SECONDS) -> dict[str, float]:
        """The part by which each process grows in ten minutes, of those that lived long enough."""
        found: dict[str, float] = {}
        for (name, _), samples in self.samples.items():
            part = growth([each for each in samples if each[0] >= samples[0][0] + warm_up], judged)
            if part is not None:
                found[name] = max(part, found.get(name, part))
        return found


def growth(samples: Sequence[Sample], judged: float = JUDGED_SECONDS) -> float | None:
    """By which part memory grows in ten minutes; None where that cannot be told.

    The median of the first fifth of the samples is compared with that of the last: what rises and falls with the load is
    no growth, and a single peak is none.
    """
    if not samples or samples[-1][0] - samples[0][0] < judged:
        return None
    count = max(1, len(samples) // ENDS)
    first, last = samples[:count], samples[-count:]
    seconds = median(at for at, _ in last) - median(at for at, _ in first)
    before, after = median(size for _, size in first), median(size for _, size in last)
    return (after - before) / before * PERIOD_SECONDS / seconds


class Gauge:
    """`async with Gauge(members, memory):` samples of every process meanwhile, and of this one."""

    def __init__(
        self, members: Callable[[], Iterable[Member]], memory: Memory, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._members, self._memory, self._clock = members, memory, clock
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Gauge:
        self._task = asyncio.create_task(self._run(), name="gauge")
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        while True:
            self._sample(OWN, os.getpid())
            for member in self._members():
                if member.serving:
                    self._sample(member.name, member.pid)
            await asyncio.sleep(SAMPLE_SECONDS)

    def _sample(self, name: str, pid: int) -> None:
        with suppress(psutil.NoSuchProcess):
            size = psutil.Process(pid).memory_info().rss
            self._memory.samples.setdefault((name, pid), []).append((self._clock(), size))
