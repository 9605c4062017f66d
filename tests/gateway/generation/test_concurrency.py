from __future__ import annotations

import asyncio

import pytest
from support.clock import run_virtual

from swarm.gateway.generation.concurrency import gather_all


async def late(seconds: float, log: list[float], error: Exception | None = None) -> float:
    try:
        await asyncio.sleep(seconds)
        if error:
            raise error
        return seconds
    finally:
        log.append(seconds)


def test_answers_stand_in_their_order() -> None:
    async def main() -> None:
        log: list[float] = []
        assert await gather_all(late(seconds, log) for seconds in (3.0, 1.0, 2.0)) == [3.0, 1.0, 2.0]
        assert log == [1.0, 2.0, 3.0]

    run_virtual(main())


def test_one_that_fails_ends_the_others_and_so_does_whoever_gives_up() -> None:
    async def main() -> None:
        log: list[float] = []
        with pytest.raises(KeyError, match="mine"):
            await gather_all([late(9.0, log), late(1.0, log, KeyError("mine")), late(8.0, log)])
        assert sorted(log) == [1.0, 8.0, 9.0]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await gather_all([late(5.0, log)])
        assert log[-1] == 5.0

    run_virtual(main())
