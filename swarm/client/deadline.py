"""The time that a request may take without progress, and what it was waiting for when that time is over."""

from __future__ import annotations

import asyncio
from typing import Protocol

from swarm.errors import DeadlineExceeded, NoChain, Overloaded, SwarmError
from swarm.identity import PeerId


class Hop(Protocol):
    """Of a chain."""

    @property
    def peer_id(self) -> PeerId: ...


class Asked(Protocol):
    """Who computes rows."""

    @property
    def hop(self) -> Hop: ...


class Deadline:
    """`async with Deadline(30, "rows at position 7") as deadline`: ends what is inside, with an error that says why.

    Raises NoChain or Overloaded if that is what was waited for, else DeadlineExceeded.
    """

    def __init__(self, seconds: float, what: str) -> None:
        self.waiting_for: SwarmError | None = None  # what holds the request up
        self.asking: PeerId | None = None  # who has not answered yet
        self._seconds = seconds
        self._what = what
        self._furthest = 0
        self._timeout = asyncio.timeout(seconds)

    def asks(self, link: Asked) -> None:
        """It is waited for from now on."""
        self.asking = link.hop.peer_id

    def progress(self, rows: int) -> None:
        """A replacement was brought to so many rows: if that is further than any before it, time starts anew.

        So a replay may take as long as its prompt did, and yet every request ends: there are only so many rows.
        """
        if rows > self._furthest and not self._timeout.expired():
            self._furthest = rows
            self._timeout.reschedule(asyncio.get_running_loop().time() + self._seconds)

    def renew(self, what: str) -> None:
        """Something was reached, and something else is under way now."""
        self._what, self.waiting_for, self._furthest = what, None, 0
        if not self._timeout.expired():
            self._timeout.reschedule(asyncio.get_running_loop().time() + self._seconds)

    async def __aenter__(self) -> Deadline:
        await self._timeout.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        try:
            await self._timeout.__aexit__(*exc)  # type: ignore[arg-type]
        except TimeoutError:
            raise self._error() from None

    def _error(self) -> SwarmError:
        reason = self.waiting_for
        text = f"waited {self._seconds:g} s for {self._what}"
        if reason is not None:
            text += f": {reason}"
        elif self.asking is not None:
            text += f": peer {self.asking.short} has not computed them"
        if isinstance(reason, NoChain):
            return NoChain(text, reason.missing)
        if isinstance(reason, Overloaded):
            return Overloaded(text, reason.retry_after)
        return DeadlineExceeded(text)
