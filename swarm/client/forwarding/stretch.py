"""Takes rows through a stretch: links each of which, but the last, hands what it computed to the next by itself.

The first is given the rows, the others are told to expect them; each sends the client what it computed, so that it has the inputs
of every hop for a replay, and the last one's rows come straight home. A token over n hops takes n + 1 one-way trips.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from swarm.client.history import Entry
from swarm.client.hop_session import HopSession
from swarm.errors import EdgeFault, Overloaded, PeerFault, SwarmError
from swarm.wire.tensors import Tensor

BEAT_SECONDS = 0.05
LATE_SECONDS = 0.1  # that a beat comes too late: somebody else had the processor


@dataclass(frozen=True, slots=True)
class Passed:
    """Rows that came out of one link."""

    link: HopSession
    tensor: Tensor
    seconds: float | None  # since they came out of the link before it, or were asked for; None: not known


class Interrupted(Exception):
    """Rows came through the first links of a stretch, one at least, and not through the next. Never leaves the session."""

    def __init__(self, passed: Sequence[Passed], error: SwarmError) -> None:
        super().__init__(str(error))
        self.passed = tuple(passed)
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


async def pass_through(links: Sequence[HopSession], entry: Entry) -> list[Passed]:
    """The rows as they come out of each link. Raises PeerFault or Overloaded of the first link, Interrupted of others."""
    loop = asyncio.get_running_loop()
    step = links[0].next_step()
    asked = [asyncio.ensure_future(links[0].ask(entry, step))]
    asked += [asyncio.ensure_future(link.expect(entry, step)) for link in links[1:]]
    passed: list[Passed] = []
    since, pulse = loop.time(), _Pulse()
    try:
        for link, reply in zip(links, asked, strict=True):
            try:
                result = await reply
                tensor = await link.take(entry, step, result)
            except (PeerFault, Overloaded) as error:
                if not passed:
                    raise
                raise Interrupted(passed, error) from error
            now = loop.time()
            passed.append(Passed(link, tensor, now - since))
            since, entry = now, Entry(entry.rows, entry.position, tensor)
            if len(passed) < len(links):
                if not result.onward:
                    raise Interrupted(passed, EdgeFault(f"peer {link.hop.peer_id.short} could not hand rows on"))
                links[len(passed)].handed_at = now
        return passed if pulse.stop() else [replace(each, seconds=None) for each in passed]
    finally:
        pulse.stop()
        for reply in asked:
            reply.cancel()
        await asyncio.wait(asked)
        for reply in asked:
            if not reply.cancelled():
                reply.exception()  # marked as seen: a link that failed behind another is asked again
