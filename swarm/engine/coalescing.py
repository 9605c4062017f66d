"""Waits a little for those who came along last time, so that they come along again. Knows nothing of what is computed.

Sessions that move in step, one row each, would otherwise fall into two halves that wait for each other for ever, and every
call would cost as much as one for all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Set

SHARE = 0.3  # of a call's recent time is the most that is waited for company
MOST_SECONDS = 0.05
SMOOTHING = 0.2  # weight of the newest call in the recent time


class Coalescing:
    """Who is expected, and for how long. Members are told apart by a hashable key of the caller's choice."""

    def __init__(self) -> None:
        self.seconds = 0.0  # recent time of one call
        self._expected: set[int] = set()
        self._arrived = asyncio.Event()

    def arrived(self) -> None:
        """Somebody new is present, or an expected one will not come."""
        self._arrived.set()

    async def anybody(self, present: Callable[[], bool]) -> None:
        """Until somebody is present."""
        while not present():
            self._arrived.clear()
            await self._arrived.wait()

    async def company(self, present: Callable[[], Set[int]]) -> None:
        """Until all that are expected are present, or the wait is no longer worth it."""
        deadline = asyncio.get_running_loop().time() + min(MOST_SECONDS, SHARE * self.seconds)
        while self._expected - present():
            self._arrived.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._arrived.wait()
            except TimeoutError:
                return

    def took(self, members: set[int], seconds: float) -> None:
        """A call for these is done: they are expected to come again at once."""
        self._expected = members
        self.seconds += (seconds - self.seconds) * (SMOOTHING if self.seconds else 1.0)

    def forget(self, member: int) -> None:
        """It will not come again."""
        self._expected.discard(member)
        self._arrived.set()
