"""Growth of resident memory is told where it can be, and what only rises and falls is none."""

from __future__ import annotations

import asyncio
import os
from random import Random

import pytest

from chaos.runner.memory import OWN, Gauge, Memory, growth

MIB = 1 << 20


def line(per_minute: float, minutes: float = 12.0, noise: float = 0.0) -> list[tuple[float, int]]:
    """A process of 300 MiB that grows by so many MiB a minute."""
    dice = Random(7)
    return [
        (at, int((300 + per_minute * at / 60 + dice.uniform(-noise, noise)) * MIB))
        for at in range(0, int(minutes * 60), 2)
    ]


@pytest.mark.parametrize(("per_minute", "part"), [(0.0, 0.0), (0.3, 0.01), (3.0, 0.1), (-0.3, -0.01)])
def test_growth_is_told_for_ten_minutes(per_minute: float, part: float) -> None:
    assert growth(line(per_minute)) == pytest.approx(part, abs=0.002)


def test_what_rises_and_falls_is_no_growth() -> None:
    found = growth(line(0.0, noise=20.0))
    assert found is not None
    assert abs(found) < 0.01
    peak = line(0.0)
    peak[180:190] = [(at, 2 * size) for at, size in peak[180:190]]
    assert growth(peak) == 0.0


def test_a_short_stretch_says_nothing() -> None:
    assert growth(line(3.0, minutes=4.0)) is None
    assert growth([]) is None


def test_a_process_is_judged_after_its_warm_up_and_each_life_for_itself() -> None:
    memory = Memory()
    memory.samples["worker-0a", 1] = [(at, (200 if at < 120 else 300) * MIB) for at, _ in line(0.0)]
    memory.samples["worker-0a", 2] = line(0.6)
    memory.samples["worker-1a", 3] = line(3.0, minutes=4.0)
    assert memory.growths() == {"worker-0a": pytest.approx(0.02, abs=0.001)}


def test_this_process_is_sampled() -> None:
    async def main() -> None:
        memory = Memory()
        async with Gauge(lambda: (), memory):
            while not memory.samples:  # noqa: ASYNC110  (the gauge takes its first sample at once)
                await asyncio.sleep(0)
        ((name, pid),) = memory.samples
        assert (name, pid) == (OWN, os.getpid())
        assert memory.samples[name, pid][0][1] > MIB

    asyncio.run(main())
