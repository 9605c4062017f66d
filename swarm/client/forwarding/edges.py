"""Which hops of a session hand their rows to the next by themselves, and who tells them to.

An edge is asked for when both hops are open, and used from then on; until then, and where a worker cannot reach the next, rows go
by the client. What is lost when an edge breaks is one step, which is asked for again.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from itertools import pairwise

from swarm.client.hops.session import HopSession
from swarm.client.peers import Peers
from swarm.errors import Overloaded, PeerFault
from swarm.trace import Trace


class Edges:
    """Of one session; `close` at its end."""

    def __init__(self, peers: Peers, trace: Trace, *, direct: bool) -> None:
        self._peers = peers
        self._trace = trace
        self._direct = direct and peers.identity is not None  # else rows always go by the client
        self._onward: dict[HopSession, HopSession] = {}
        self._asked: set[tuple[HopSession, HopSession]] = set()  # whatever came of it
        self._distrusted: set[HopSession] = set()
        self._epochs = itertools.count(1)
        self._tasks: dict[asyncio.Task[None], tuple[HopSession, HopSession]] = {}

    def direct(self, link: HopSession, following: HopSession) -> bool:
        """Whether the rows of the one go to the other by themselves."""
        return self._onward.get(link) is following

    def stretch(self, links: Sequence[HopSession], start: int) -> list[HopSession]:
        """The links from `start` on that one question takes rows through."""
        stop = start + 1
        while stop < len(links) and self.direct(links[stop - 1], links[stop]):
            stop += 1
        return list(links[start:stop])

    def join(self, links: Sequence[HopSession]) -> None:
        """Ask for the edges between these links that were not asked for. They are used once they are there."""
        pairs = set(pairwise(links))
        self._asked &= pairs
        self._onward = {link: following for link, following in self._onward.items() if (link, following) in pairs}
        if self._direct:
            for link, following in pairs - self._asked:
                if link in self._distrusted or self._peers.apart(link.hop.peer_id, following.hop.peer_id):
                    continue
                self._asked.add((link, following))
                task = asyncio.create_task(self._connect(link, following), name="edge")
                self._tasks[task] = link, following
                task.add_done_callback(self._tasks.pop)

    def part(self, link: HopSession) -> None:
        """The edge after this link is of no use: its rows go by the client from now on."""
        following = self._onward.pop(link, None)
        if following is not None:
            peers = {"peer": link.hop.peer_id.short, "next": following.hop.peer_id.short}
            self._trace.failed("session.edge", **peers, error="rows that were handed on did not come")

    def distrust(self, link: HopSession) -> None:
        """What the next worker signed of its inputs is not what this one's gave us: one of the two lies, perhaps this."""
        self._distrusted.add(link)

    def stretches(self, links: Sequence[HopSession]) -> list[list[HopSession]]:
        """The whole chain, cut into stretches."""
        found: list[list[HopSession]] = []
        while (start := sum(map(len, found))) < len(links):
            found.append(self.stretch(links, start))
        return found

    async def settled(self, seconds: float) -> None:
        """Until every edge that was asked for is there, or is known not to come; no longer than that, and not again soon."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for link, following in self._tasks.values():
            self._peers.set_apart(link.hop.peer_id, following.hop.peer_id)

    async def close(self) -> None:
        """The links are closed by whoever opened them."""
        self._onward.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connect(self, link: HopSession, following: HopSession) -> None:
        peers = {"peer": link.hop.peer_id.short, "next": following.hop.peer_id.short}
        try:
            await link.connect(following, next(self._epochs))
        except (PeerFault, Overloaded) as error:
            self._peers.set_apart(link.hop.peer_id, following.hop.peer_id)
            self._trace.failed("session.edge", **peers, error=str(error))
            return
        self._peers.joined(link.hop.peer_id, following.hop.peer_id)
        if (link, following) in self._asked:
            self._onward[link] = following
            self._trace.complete("session.edge", **peers)


def avoid_disputed(links: Sequence[HopSession], direct: Sequence[bool], peers: Peers) -> None:
    """Where the last rows that a hop was handed are not those that we were told, it or the one before it lied."""
    for (before, link), handed in zip(pairwise(links), direct, strict=False):
        if link.disputed and handed:
            peers.suspect(before.hop.peer_id)
            peers.suspect(link.hop.peer_id)
