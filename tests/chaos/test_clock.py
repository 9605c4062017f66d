import asyncio
import time

import pytest

from chaos.simulation import clock
from chaos.simulation.clock import START, Stuck, run_virtual


def test_an_hour_of_sleep_takes_no_time_and_order_is_kept():
    async def main():
        order = []

        async def sleeper(seconds):
            await asyncio.sleep(seconds)
            order.append((seconds, asyncio.get_running_loop().time() - START))

        await asyncio.gather(sleeper(3600), sleeper(1), sleeper(60))
        return order

    began = time.monotonic()
    assert run_virtual(main()) == [(1, 1.0), (60, 60.0), (3600, 3600.0)]
    assert time.monotonic() - began < 5


def test_the_clock_stands_while_a_thread_computes():
    async def main():
        loop = asyncio.get_running_loop()
        asyncio.get_running_loop().call_later(0.001, lambda: None)
        before = loop.time()
        assert await asyncio.wait_for(asyncio.to_thread(lambda: time.sleep(0.02) or 7), timeout=0.005) == 7
        assert await loop.run_in_executor(None, lambda: 8) == 8
        return loop.time() - before

    assert run_virtual(main()) == 0.0


def test_what_can_never_happen_is_reported(monkeypatch):
    monkeypatch.setattr(clock, "STUCK_SECONDS", 0.05)

    async def main():
        await asyncio.Event().wait()

    with pytest.raises(Stuck):
        run_virtual(main())


def test_real_sockets_are_refused():
    async def main():
        with pytest.raises(RuntimeError, match="no real sockets"):
            await asyncio.open_connection("127.0.0.1", 1)

    run_virtual(main())
