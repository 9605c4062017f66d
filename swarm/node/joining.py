"""Join a swarm whose bootstraps may not be up yet: managers of services start them in any order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from swarm.errors import NoSwarm, OtherKey

PAUSE_SECONDS = 1.0  # between two attempts, each of which waits for answers itself


async def join_within(join: Callable[[], Awaitable[None]], seconds: float, tell: Callable[[str], None]) -> None:
    """Until it succeeds; what is in the way is told once. Raises NoSwarm after so many seconds (0: at once), and OtherKey, which
    no waiting changes, at once."""
    loop = asyncio.get_running_loop()
    until, told = loop.time() + seconds, False
    while True:
        try:
            return await join()
        except OtherKey:
            raise
        except NoSwarm as error:
            if loop.time() + PAUSE_SECONDS > until:
                raise
            if not told:
                tell(f"{error}. Waiting for it" + (f" for {seconds:g} s" if seconds < float("inf") else ""))
                told = True
        await asyncio.sleep(PAUSE_SECONDS)
