"""Memory goes back once much of it is not needed any more, a little later and once."""

from __future__ import annotations

import asyncio

from support.clock import run_virtual

from swarm.transport.ebb import EBB_BYTES, EBB_SECONDS, Ebb, give_back


def test_after_much_was_held() -> None:
    async def main() -> None:
        returns: list[float] = []
        loop = asyncio.get_running_loop()
        ebb = Ebb(lambda: returns.append(loop.time()))
        began = loop.time()
        for _ in range(100):
            ebb.holds(EBB_BYTES - 1)
            ebb.holds(0)
        await asyncio.sleep(10 * EBB_SECONDS)
        assert returns == []
        ebb.holds(3 * EBB_BYTES)
        ebb.holds(2 * EBB_BYTES)
        ebb.holds(EBB_BYTES)
        await asyncio.sleep(10 * EBB_SECONDS)
        assert returns == [began + 11 * EBB_SECONDS]
        ebb.holds(0)
        ebb.close()
        await asyncio.sleep(10 * EBB_SECONDS)
        assert len(returns) == 1

    run_virtual(main())


def test_giving_back_is_harmless() -> None:
    give_back()
