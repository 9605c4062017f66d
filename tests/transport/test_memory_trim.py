"""Memory goes back once much of it is not needed any more, a little later and once."""

from __future__ import annotations

import asyncio

from support.clock import run_virtual

from swarm.transport.memory_trim import TRIM_BYTES, TRIM_SECONDS, MemoryTrim, trim_memory


def test_after_much_was_held() -> None:
    async def main() -> None:
        returns: list[float] = []
        loop = asyncio.get_running_loop()
        trim = MemoryTrim(lambda: returns.append(loop.time()))
        began = loop.time()
        for _ in range(100):
            trim.holds(TRIM_BYTES - 1)
            trim.holds(0)
        await asyncio.sleep(10 * TRIM_SECONDS)
        assert returns == []
        trim.holds(3 * TRIM_BYTES)
        trim.holds(2 * TRIM_BYTES)
        trim.holds(TRIM_BYTES)
        await asyncio.sleep(10 * TRIM_SECONDS)
        assert returns == [began + 11 * TRIM_SECONDS]
        trim.holds(0)
        trim.close()
        await asyncio.sleep(10 * TRIM_SECONDS)
        assert len(returns) == 1

    run_virtual(main())


def test_giving_back_is_harmless() -> None:
    trim_memory()
