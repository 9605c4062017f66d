"""Takes rows through a stretch: links each of which, but the last, hands what it computed to the next by itself.

The first is given the rows, the others are told to expect them; each sends the client what it computed, so that it has the inputs
of every hop for a replay, and the last one's rows come straight home. A token over n hops takes n + 1 one-way trips.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from swarm.client.history import Entry
from swarm.client.hop_session import HopSession
from swarm.errors import EdgeFault, Overloaded, PeerFault, SwarmError
from swarm.wire.tensors import Tensor

BEAT_SECONDS = 0.25
LATE_SECONDS = 0.1  # that a beat comes too late: somebody else had the processor


@dataclass(frozen=True, slots=True)
class Passed:
    """Rows that came out of one link."""

    link: HopSession
    tensor: Tensor
    at: float  # loop time, seconds
    seconds: float | None  # since they came out of the link before it, or were asked for; None: not known


@dataclass(slots=True)
class Journey:
    """Rows on their way through a chain: what each link was given, and what came out of it."""

    entry: Entry  # for the next link
    given: list[Entry] = field(default_factory=list)
    passed: list[Passed] = field(default_factory=list)

    def came(self, passed: Sequence[Passed]) -> None:
        """Out of the next links."""
        for each in passed:
            self.given.append(self.entry)
            self.passed.append(each)
            self.entry = Entry(self.entry.rows, self.entry.position, each.tensor)


class Interrupted(Exception):
    """Rows came through the first links of a stretch, if any, and not through the next. Never leaves the session."""

    def __init__(self, passed: Sequence[Passed], link: HopSession, error: SwarmError) -> None:
        super().__init__(str(error))
        self.passed = tuple(passed)
        self.link = link  # that they did not come through
        self.error = error  # EdgeFault: neither of the links that the edge joins is known to have failed


class _Pulse:
    """Tells whether this event loop ran all the while: else rows seem to be late that only waited for us."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._late = False
        self._beat()

    def _beat(self) -> None:
        self._due = self._loop.time() + BEAT_SECONDS
        self._timer = self._loop.call_at(self._due, self._beaten)

    def _beaten(self) -> None:
        self._look()
        self._beat()

    def _look(self) -> None:
        self._late = self._late or self._loop.time() - self._due > LATE_SECONDS

    def stop(self) -> bool:
        """Whether it ran."""
        self._timer.cancel()
        self._look()
        return not self._late


class Passage:
    """Rows on their way through a stretch. Those who are asked behind each other are to be waited for in that order."""

    def __init__(self, links: Sequence[HopSession], entry: Entry) -> None:
        """Asks at once."""
        self.links = tuple(links)
        self.entry = entry
        self._step = links[0].next_step()
        self._began = asyncio.get_running_loop().time()
        self._asked = [asyncio.ensure_future(links[0].ask(entry, self._step, len(links) - 1))]
        self._asked += [asyncio.ensure_future(link.expect(entry, self._step)) for link in links[1:]]
        self._came = [math.inf] * len(links)
        for index, reply in enumerate(self._asked):
            reply.add_done_callback(partial(self._answered, index))
        self._pulse = _Pulse()

    def _answered(self, index: int, reply: object) -> None:
        self._came[index] = asyncio.get_running_loop().time()

    async def wait(
        self, free: Sequence[float] = (), asking: Callable[[HopSession], None] = lambda link: None
    ) -> list[Passed]:
        """The rows as they come out of each link. `free`: when each link was done with the rows before these; `asking` is told
        who is waited for.

        Raises PeerFault or Overloaded of the first link, Interrupted of others.
        """
        links, entry = self.links, self.entry
        passed: list[Passed] = []
        since = self._began
        try:
            for link, reply in zip(links, self._asked, strict=True):
                asking(link)
                try:
                    result = await reply
                    tensor = await link.take(entry, self._step, result)
                except (PeerFault, Overloaded) as error:
                    if not passed:
                        raise
                    raise Interrupted(passed, link, error) from error
                index = len(passed)
                came, before = self._came[index], free[index] if free else since
                passed.append(Passed(link, tensor, came, came - max(since, before)))
                since, entry = came, Entry(entry.rows, entry.position, tensor)
                if len(passed) < len(links):
                    following = links[len(passed)]
                    if not result.onward:
                        fault = EdgeFault(f"peer {link.hop.peer_id.short} could not hand rows on")
                        raise Interrupted(passed, following, fault)
                    following.handed(self._step)
            return passed if self._pulse.stop() else [replace(each, seconds=None) for each in passed]
        finally:
            await self.give_up()

    async def give_up(self) -> None:
        """Nobody waits for these rows any more."""
        self._pulse.stop()
        for reply in self._asked:
            reply.cancel()
        await asyncio.wait(self._asked)
        for reply in self._asked:
            if not reply.cancelled():
                reply.exception()  # marked as seen: a link that failed behind another is asked again
