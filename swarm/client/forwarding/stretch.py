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

from swarm.client.hops.history import Entry, History
from swarm.client.hops.session import HopSession
from swarm.errors import EdgeFault, Overloaded, PeerFault, SwarmError
from swarm.wire.tensors import Tensor

BEAT_SECONDS = 0.25
TRIP_SECONDS = 0.005  # besides two round trips, for the answer to a question about rows that are computed
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
    given: list[Entry | None] = field(default_factory=list)  # None: not known yet
    passed: list[Passed] = field(default_factory=list)

    def came(self, passed: Sequence[Passed]) -> None:
        """Out of the next links."""
        for each in passed:
            self.given.append(self.entry)
            self.passed.append(each)
            self.entry = Entry(self.entry.rows, self.entry.position, each.tensor)

    def came_quietly(self, links: int, tensor: Tensor) -> None:
        """Out of the last of so many links, the others of which did not tell."""
        self.given += [self.entry, *([None] * (links - 1))]
        self.entry = Entry(self.entry.rows, self.entry.position, tensor)


@dataclass(frozen=True, slots=True)
class Silence:
    """Rows that are on their way through a stretch, and whose last link did not answer as it should."""

    step: int
    began: float  # loop time, seconds
    ran: bool  # this event loop, all the while: else rows may seem late that only waited for us


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

    def __init__(
        self,
        links: Sequence[HopSession],
        entry: Entry,
        after: Sequence[History] = (),
        silence: Silence | None = None,
    ) -> None:
        """Asks at once; with `after`, what came of older rows out of each link, also for decode rows that are owed to that."""
        self.links = tuple(links)
        self.entry = entry
        self._after = after
        self._step = links[0].next_step() if silence is None else silence.step
        owed = [entry.position - history.length for history in after] or [0] * len(links)
        self._asked_at = asyncio.get_running_loop().time()
        self._began = self._asked_at if silence is None else silence.began
        self._ran = silence is None or silence.ran
        self._asked = [asyncio.ensure_future(links[0].ask(entry, self._step, len(links) - 1, owed[0]))]
        self._asked += [
            asyncio.ensure_future(link.expect(entry, self._step, rows))
            for link, rows in zip(links[1:], owed[1:], strict=True)
        ]
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
                    after = self._after[len(passed)] if self._after else None
                    tensor = await link.take(entry, self._step, result, after)
                except (PeerFault, Overloaded) as error:
                    if not passed:
                        raise
                    raise Interrupted(passed, link, error) from error
                index = len(passed)
                came = min(self._came[index], asyncio.get_running_loop().time())  # it may not have been noted yet
                before = free[index] if free else since
                passed.append(Passed(link, tensor, came, came - max(since, before)))
                since, entry = came, Entry(entry.rows, entry.position, tensor)
                if len(passed) < len(links):
                    following = links[len(passed)]
                    if not result.onward:
                        fault = EdgeFault(f"peer {link.hop.peer_id.short} could not hand rows on")
                        raise Interrupted(passed, following, fault)
                    following.handed(self._step)
            return (
                self._shared_out(passed)
                if self._pulse.stop() and self._ran
                else [replace(each, seconds=None) for each in passed]
            )
        finally:
            await self.give_up()

    def _shared_out(self, passed: list[Passed]) -> list[Passed]:
        """Of links that were done before they were asked it is not known when: they took what their workers say."""
        done: list[Passed] = []
        until = self._began
        for each in passed:
            trip = each.link.round_trip or 0.0
            if self._asked_at == self._began or each.at > self._asked_at + 2 * trip + TRIP_SECONDS:
                break
            seconds = min(each.link.load.step_seconds + trip, self._asked_at - until)
            until += seconds
            done.append(replace(each, seconds=seconds))
        rest = passed[len(done) :]
        if done and rest:
            rest[0] = replace(rest[0], seconds=rest[0].at - until)
        return done + rest

    async def give_up(self) -> None:
        """Nobody waits for these rows any more."""
        self._pulse.stop()
        for reply in self._asked:
            reply.cancel()
        await asyncio.wait(self._asked)
        for reply in self._asked:
            if not reply.cancelled():
                reply.exception()  # marked as seen: a link that failed behind another is asked again
