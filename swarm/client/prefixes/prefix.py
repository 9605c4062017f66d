"""The rows that a session holds, for others to begin with: links that are level, and what came of them.

A session that begins so shares the entries of the parent's histories, so that a replay, a failover and an audit of it go as
those of any other. Whose parent it may be is decided in `cache`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from swarm.client.hops.history import History
from swarm.client.hops.session import HopSession
from swarm.client.hops.sessions import close_hop_sessions, gather_hop_sessions
from swarm.client.peers import Peers
from swarm.engine import CHUNK_ROWS
from swarm.precision import any_cut
from swarm.records import ModelRef


def beginning(rows: int, any_cut: bool) -> int:
    """How many of so many rows that two sessions share one may take from the other."""
    return rows if any_cut else rows // CHUNK_ROWS * CHUNK_ROWS


def shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many ids are the same from the first on."""
    least, most = 0, min(len(one), len(other))
    while least < most:
        middle = (least + most + 1) // 2
        if one[least:middle] == other[least:middle]:
            least = middle
        else:
            most = middle - 1
    return least


@dataclass(frozen=True, slots=True)
class Prefix:
    """A session's links, from the first layer to the last, and the outputs of the last one."""

    links: tuple[HopSession, ...]
    outputs: History
    precision: str

    @property
    def any_cut(self) -> bool:
        """Whether others may begin with any of its first rows: they have no other bits in another call."""
        return all(any_cut(link.numerics) for link in self.links)

    @property
    def rows(self) -> int:
        """That others may begin with: all that every hop has told, or those of whole chunks of the grid at the beginning."""
        told = min(self.outputs.length, *(link.told for link in self.links))
        return told if self.any_cut else min(told, self.outputs.whole_chunks(CHUNK_ROWS))

    def beginning(self, rows: int) -> int:
        """How many of its first rows, so many at most, another session may begin with."""
        return beginning(min(rows, self.rows), self.any_cut)

    @property
    def bytes(self) -> int:
        return self.outputs.bytes + sum(link.inputs.bytes for link in self.links)

    async def branch(self, rows: int, peers: Peers, model: ModelRef, max_rows: int) -> Prefix:
        """New sessions at the same workers that begin with the first `rows` rows, or as many as all have. Raises HopFault."""
        while True:  # each time with fewer rows
            opening = [
                partial(HopSession.open, link.hop, peers, model, self.precision, max_rows, link.inputs.head(rows), link)
                for link in self.links
            ]
            links = await gather_hop_sessions(
                [(link.hop, each) for link, each in zip(self.links, opening, strict=True)]
            )
            given = {link.inputs.length for link in links}
            if len(given) == 1:
                return Prefix(tuple(links), self.outputs.head(*given), self.precision)
            await close_hop_sessions(links)
            rows = min(given)

    async def rest(self) -> bool:
        """Whether all workers keep their session, which has ended; if not all are closed."""
        whole = False
        try:
            whole = all(await asyncio.gather(*(link.rest() for link in self.links)))
        finally:
            if not whole:
                await close_hop_sessions(self.links)
        return whole

    def trim(self) -> Prefix:
        """Without the rows that nobody can begin with."""
        rows = self.rows
        for link in self.links:
            link.inputs = link.inputs.head(rows)
        return Prefix(self.links, self.outputs.head(rows), self.precision)
