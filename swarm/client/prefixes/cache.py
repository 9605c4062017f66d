"""The sessions that another may begin with the rows of: those under way, and those that have ended and are kept for a while.

A prompt that begins as an earlier one of the same owner did, or as that one and its answer, finds the longest beginning that they
share, as far as these rows have the very bits that computing them anew would give: to the row in portable numerics, elsewhere in
whole chunks of the grid that were computed as chunks. What is kept is kept at the workers, which drop it as soon as somebody
needs the place, and here for replays. Nothing depends on it: a worker that has dropped a session costs the new one a round trip.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from swarm.client.heads import Heads
from swarm.client.hops.sessions import HopFault, close_hop_sessions
from swarm.client.peers import Peers
from swarm.client.prefixes.prefix import Prefix, shared
from swarm.client.resolver import Resolver
from swarm.client.room import Room
from swarm.config import ClientConfig
from swarm.engine import CHUNK_ROWS
from swarm.engine.numerics import arithmetic_of
from swarm.errors import LocalFault, PeerFault, SessionFault
from swarm.identity import PeerId
from swarm.trace import Trace

LEAST_ROWS = CHUNK_ROWS  # that are worth a session that begins with them: fewer are computed sooner than asked for
BRANCH_SECONDS = 5.0  # for workers to copy rows; computing them anew is then no worse


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a session is about to be given, and whose it is."""

    owner: str  # nobody else's session begins with its rows
    ids: tuple[int, ...]
    answered: Callable[[], bool]  # its answer has come to its end; one that was given up is not kept
    told: Callable[[], Sequence[int]] = tuple  # ids of the answer so far

    def seen(self) -> tuple[int, ...]:
        """Ids of the prompt and of its answer: of the session's rows, and of one that it may not hold yet."""
        return (*self.ids, *self.told())


class Growing(Protocol):
    """A session under way."""

    @property
    def stem(self) -> Prefix | None: ...


@dataclass(slots=True, eq=False)
class Parent:
    """A session that others may begin with."""

    prompt: Prompt
    session: Growing | None  # None: it has ended
    kept: Prefix | None = None  # once it has
    kept_ids: tuple[int, ...] = ()  # of the rows that are kept
    used_at: float = 0.0

    @property
    def stem(self) -> Prefix | None:
        return self.session.stem if self.session is not None else self.kept

    @property
    def ids(self) -> tuple[int, ...]:
        return self.prompt.seen() if self.session is not None else self.kept_ids


class PrefixCache:
    """`async with PrefixCache(...)`: leaving closes those that are kept."""

    def __init__(self, resolver: Resolver, peers: Peers, config: ClientConfig, trace: Trace) -> None:
        self._resolver = resolver
        self._peers = peers
        self._config = config
        self._trace = trace
        self._parents: dict[str, dict[Parent, None]] = {}  # by owner
        self._ended: dict[Parent, None] = {}  # the least recently used first
        self._closing: set[asyncio.Task[None]] = set()
        self._renewer: asyncio.Task[None] | None = None

    async def __aenter__(self) -> PrefixCache:
        self._renewer = asyncio.create_task(self._renew(), name="kept sessions")
        return self

    async def __aexit__(self, *exc: object) -> None:
        renewer = self._renewer
        assert renewer is not None
        renewer.cancel()
        await asyncio.wait({renewer})
        for parent in tuple(self._ended):
            self._drop(parent)
        await asyncio.gather(*self._closing)
        if not renewer.cancelled():
            renewer.result()  # it never ends by itself: a bug of ours

    def __len__(self) -> int:
        """How many have ended and are kept."""
        return len(self._ended)

    @property
    def size(self) -> int:
        """Bytes of rows, for replays; those that several share count for each."""
        return sum(parent.kept.bytes for parent in self._ended if parent.kept is not None)

    async def branch(
        self, prompt: Prompt, room: Room, heads_for: Callable[[str, str], Awaitable[Heads]]
    ) -> tuple[Prefix, Heads] | None:
        """A new session that holds the first rows of a prompt already, with its head; None: it has to begin with none."""
        found = self._longest(prompt)
        if found is None:
            return None
        parent, stem, rows = found
        hops = [link.hop for link in stem.links]
        if self._resolver.rows_at(hops, room.least) < room.least:
            return None
        reserved = self._resolver.rows_to_reserve(hops, room)
        self._use(parent)
        heads = await heads_for(stem.precision, arithmetic_of(stem.links[0].numerics))
        try:
            async with asyncio.timeout(BRANCH_SECONDS):
                begun = await stem.branch(rows, self._peers, self._resolver.model, reserved)
        except (HopFault, TimeoutError) as error:
            self._missed(parent, error)
            return None
        self._trace.complete("session.branch", rows=rows)
        return begun, heads

    def begin(self, prompt: Prompt, session: Growing) -> Parent:
        """A session is under way; `end` when it is no more."""
        parent = Parent(prompt, session)
        self._parents.setdefault(prompt.owner, {})[parent] = None
        return parent

    def end(self, parent: Parent, kept: Prefix | None) -> None:
        """Its session has ended; `kept`: the workers keep it."""
        parent.session = None
        if kept is None:
            self._forget(parent)
            return
        parent.kept = kept.trim()
        parent.kept_ids = parent.prompt.seen()[: parent.kept.rows]
        for older in tuple(self._ended):
            covered = older.prompt.owner == parent.prompt.owner and older.ids == parent.ids[: len(older.ids)]
            if covered and older.kept is not None and older.kept.precision == kept.precision:
                self._drop(older)  # whatever may begin with it may begin with this one
        self._use(parent)
        while len(self._ended) > self._config.max_kept or self.size > self._config.max_kept_bytes:
            self._drop(next(iter(self._ended)))

    def _longest(self, prompt: Prompt) -> tuple[Parent, Prefix, int] | None:
        """The session that shares most of a prompt, of several the youngest, and how many rows of it."""
        shunned, ids = self._shunned(), prompt.ids[:-1]  # the last row has to come out of the chain
        found = None
        least = LEAST_ROWS
        for parent in reversed(self._parents.get(prompt.owner, {})):
            stem = parent.stem
            if stem is None or passes(stem, shunned):
                continue
            rows = stem.beginning(shared(ids, parent.ids))
            if rows >= least:
                found, least = (parent, stem, rows), rows + 1
        return found

    def _shunned(self) -> frozenset[PeerId]:
        return self._peers.avoided(strictly=True) | self._resolver.banned

    def _missed(self, parent: Parent, fault: HopFault | TimeoutError) -> None:
        """A worker does not keep it any more, has no room, or is gone. Raises what is a fault of ours."""
        for hop, error in fault.failures if isinstance(fault, HopFault) else ():
            if isinstance(error, LocalFault):
                raise error
            if isinstance(error, PeerFault) and not isinstance(error, SessionFault):
                self._peers.suspect(hop.peer_id)
        self._trace.failed("session.branch", reason=str(fault) or repr(fault))
        if parent.session is None:
            self._drop(parent)

    def _use(self, parent: Parent) -> None:
        parent.used_at = asyncio.get_running_loop().time()
        if parent.session is None:
            self._ended.pop(parent, None)
            self._ended[parent] = None

    def _drop(self, parent: Parent) -> None:
        """Keep it no more."""
        self._forget(parent)
        self._ended.pop(parent, None)
        stem, parent.kept = parent.kept, None
        if stem is not None:
            closing = asyncio.create_task(close_hop_sessions(stem.links), name="closing")
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def _forget(self, parent: Parent) -> None:
        others = self._parents.get(parent.prompt.owner, {})
        others.pop(parent, None)
        if not others:
            self._parents.pop(parent.prompt.owner, None)

    async def _renew(self) -> None:
        """Keep the workers' leases, as long as the sessions are worth it."""
        while True:
            await asyncio.sleep(self._config.renew_seconds)
            now, shunned = asyncio.get_running_loop().time(), self._shunned()
            for parent in tuple(self._ended):
                lied = parent.kept is not None and passes(parent.kept, shunned)  # perhaps
                if lied or now - parent.used_at >= self._config.kept_seconds:
                    self._drop(parent)
            await asyncio.gather(*(self._renewed(parent, parent.kept) for parent in tuple(self._ended) if parent.kept))

    async def _renewed(self, parent: Parent, stem: Prefix) -> None:
        if not await stem.rest() and parent.kept is stem:
            self._drop(parent)


def passes(stem: Prefix, shunned: frozenset[PeerId]) -> bool:
    """Whether it rests on a peer that failed or lied."""
    return any(link.hop.peer_id in shunned for link in stem.links)
