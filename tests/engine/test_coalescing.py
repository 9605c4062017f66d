"""Who comes together again, and for how long the others are waited for."""

from __future__ import annotations

import asyncio

from support.clock import run_virtual

from swarm.engine.coalescing import MOST_SECONDS, SHARE, Coalescing


async def waited(gathering: Coalescing, present: set[int]) -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    await gathering.company(lambda: present)
    return loop.time() - began


def test_nobody_is_waited_for_who_was_not_there_last_time() -> None:
    async def main() -> None:
        gathering = Coalescing()
        assert await waited(gathering, {1}) == 0
        gathering.took({1}, 0.1)
        assert await waited(gathering, {1}) == 0
        assert await waited(gathering, {1, 2}) == 0

    run_virtual(main())


def test_the_wait_is_a_share_of_a_call_and_never_long() -> None:
    async def main() -> None:
        gathering = Coalescing()
        gathering.took({1, 2}, 0.1)
        assert abs(await waited(gathering, {1}) - 0.1 * SHARE) < 1e-6
        for _ in range(50):
            gathering.took({1, 2}, 100.0)
        assert abs(await waited(gathering, {1}) - MOST_SECONDS) < 1e-6

    run_virtual(main())


def test_the_wait_ends_when_the_last_one_comes_or_is_known_not_to() -> None:
    async def main() -> None:
        gathering = Coalescing()
        loop = asyncio.get_running_loop()
        for end in ("comes", "is forgotten"):
            gathering.took({1, 2}, 0.1)
            present = {1}

            def ending(how: str = end, there: set[int] = present) -> None:
                if how == "comes":
                    there.add(2)
                    gathering.arrived()
                else:
                    gathering.forget(2)

            loop.call_later(0.01, ending)
            assert abs(await waited(gathering, present) - 0.01) < 1e-6

    run_virtual(main())
