"""Decode rows through a stretch of which the last link alone answers: a token costs every other hop one message in and one out.

What those made of the rows, which a replay and the receipts need, is asked for some rows later, with the answer to others. Until
then their workers keep it: what a lost one was given has the one before it; if that is lost too, it is replayed from before.

Whatever goes wrong is found out aloud: all links are asked for the very same step, as if there had been no silence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from swarm.client.forwarding.stretch import LATE_SECONDS, Silence
from swarm.client.hops.history import Entry, History
from swarm.client.hops.session import HopSession
from swarm.errors import Overloaded, PeerFault, ProtocolFault, UsageFault
from swarm.wire.rows import Rows
from swarm.wire.tensors import Tensor

MOST_OWED = 16  # rows that are not told: fewer than RECEIPT_ROWS, so that one receipt at most is due for them
MOST_OWED_BYTES = 1 << 20  # of one boundary: a worker keeps more
ALOUD_STEPS = 4  # of new links, or after something went wrong: what their usual time is judged by
SLOW_STEPS = 8  # aloud after a step that took long, to see which link it is
SLOWER = 1.5  # times as long as usual: less than one slow link among several makes of it
LEAST_SECONDS = 0.02  # longer than usual: less is noise
SMOOTHING = 8  # steps
PATIENCE_SECONDS = 0.25  # for an answer whose usual time is not known
SETTLE_SECONDS = 1.0  # for what is not told when a session ends


def after_each(links: Sequence[HopSession], outputs: History) -> list[History]:
    """What came out of each of these links, the last of which gave `outputs`."""
    return [*(link.inputs for link in links[1:]), outputs]


class Quiet:
    """Owned by one session."""

    def __init__(self) -> None:
        self._links: tuple[HopSession, ...] = ()
        self._aloud = 0  # steps still to be taken so
        self._usual: dict[HopSession, float] = {}  # seconds of a step through the stretch that begins there, smoothed

    def may(self, stretch: Sequence[HopSession], chain: Sequence[HopSession], entry: Entry) -> bool:
        """Whether these rows may go quietly through a stretch of the chain."""
        if tuple(chain) != self._links:
            self._links, self._aloud, self._usual = tuple(chain), ALOUD_STEPS, {}
        if len(stretch) < 2 or entry.rows is not Rows.DECODE:
            return False
        if self._aloud > 0:
            self._aloud -= 1
            return False
        size = len(entry.tensor.data) // entry.count
        most = min(MOST_OWED, MOST_OWED_BYTES // size)
        return all(entry.position + entry.count - link.inputs.length <= most for link in stretch[1:])

    async def through(
        self, links: Sequence[HopSession], entry: Entry, asking: Callable[[HopSession], None]
    ) -> Tensor | Silence:
        """What came out of the last link; else all are to be asked."""
        loop, last = asyncio.get_running_loop(), links[-1]
        step, began = links[0].next_step(), loop.time()
        for link in links[:-1]:
            link.given(entry, step)
        asking(last)
        reply = asyncio.ensure_future(last.expect(entry, step))
        tensor: Tensor | None = None
        try:
            links[0].push(entry, step, len(links) - 1)
            watched: set[asyncio.Future[Any]] = {reply, *(link.ended for link in links[:-1])}
            await asyncio.wait(watched, timeout=self._patience(links[0]), return_when=asyncio.FIRST_COMPLETED)
            if reply.done():
                tensor = last.take_first(entry, step, reply.result())
        except (PeerFault, Overloaded):
            pass  # whose fault it is shows when all are asked
        finally:
            if not reply.done():
                reply.cancel()
                await asyncio.wait({reply})
        if tensor is None:
            self._aloud = SLOW_STEPS
            return Silence(step, began, loop.time() < began + self._patience(links[0]) + LATE_SECONDS)
        for link in links:
            link.silent(entry, step)
        self._note(links[0], loop.time() - began)
        return tensor

    def _patience(self, first: HopSession) -> float:
        usual = self._usual.get(first)
        return PATIENCE_SECONDS if usual is None else max(SLOWER * usual, usual + LEAST_SECONDS)

    def took(self, links: Sequence[HopSession], entry: Entry, seconds: Sequence[float | None]) -> None:
        """So long took these links for rows that all answered; None: it is not known."""
        known = [each for each in seconds if each is not None]
        if len(known) == len(links) > 1 and entry.rows is Rows.DECODE:
            self._note(links[0], sum(known))

    def _note(self, first: HopSession, seconds: float) -> None:
        usual = self._usual.get(first, seconds)
        self._usual[first] = usual + (min(seconds, SLOWER * usual) - usual) / SMOOTHING


async def told_at_end(links: Sequence[HopSession], outputs: History) -> bool:
    """As `settle`, of links that are to be closed, and not for long. Whether all was told."""
    try:
        async with asyncio.timeout(SETTLE_SECONDS):
            failed = await settle(links, outputs)
    except (TimeoutError, UsageFault):  # the latter where the client was closed meanwhile
        return False
    if failed is not None and isinstance(failed[1], ProtocolFault):
        failed[0].dispute(failed[1])
    return failed is None


async def settle(links: Sequence[HopSession], outputs: History) -> tuple[HopSession, PeerFault | Overloaded] | None:
    """Have all rows told that were not: then every hop's inputs are as many as `outputs`. Returns who failed, and how."""
    for link, after in zip(links, after_each(links, outputs), strict=True):
        try:
            await link.settle(after, outputs.length)
        except (PeerFault, Overloaded) as error:
            return link, error
    return None
