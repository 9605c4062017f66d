"""Leaves a worker that still works but has become slow: a replacement is brought level while the slow one goes on.

When to try is decided in `stragglers`. Whatever goes wrong with a move, the session keeps the link that it has.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from swarm.client.audits.auditor import Auditor
from swarm.client.failover.replay import Replay
from swarm.client.failover.stragglers import HopTempo, Slowness, Step, Tries, judge, pays
from swarm.client.hops.history import History
from swarm.client.hops.session import HopSession
from swarm.client.hops.sessions import HopFault, close_hop_sessions, open_hop_sessions
from swarm.client.peers import Peers
from swarm.client.resolver import Resolver
from swarm.client.room import Room
from swarm.config import ClientConfig
from swarm.errors import NoChain, NoRoom, Overloaded, PeerFault, WrongModel
from swarm.routing.chain import Chain

SPLICE_SECONDS = 2.0  # for the rows that came while the replacement was brought level; the session waits for them


class Staying(Exception):
    """Why a link that is slow is kept. Never leaves this module."""


@dataclass(slots=True)
class Timed:
    """A link and what the step through it took."""

    link: HopSession
    step: Step


@dataclass(slots=True)
class Migrated:
    """A replacement that is level."""

    old: HopSession
    links: list[HopSession]
    cause: str
    seconds: float  # that the replay took, beside the session's own steps


class Migration:
    """Owned by one session: `observe` what each step took, take what is `ready` before the next."""

    def __init__(
        self,
        resolver: Resolver,
        peers: Peers,
        config: ClientConfig,
        precision: str,
        room: Room,
        auditor: Auditor | None,
    ) -> None:
        self._resolver = resolver
        self._peers = peers
        self._config = config
        self._precision = precision
        self._room = room
        self._auditor = auditor
        self._tempos: dict[HopSession, HopTempo] = {}
        self._tries = Tries()
        self._old: HopSession | None = None  # that is being replaced
        self._cause = ""
        self._began = 0.0
        self._task: asyncio.Task[Replay] | None = None

    def observe(self, timed: Sequence[Timed], outputs: History, position: int) -> None:
        """A step went through the whole chain undisturbed. May begin a move; `outputs` are those of the last hop."""
        links = [each.link for each in timed]
        self._tempos = {link: self._tempos.get(link) or self._tempo(link) for link in links}
        verdicts = judge([(self._tempos[each.link], each.step) for each in timed])
        slow = [(index, slowness) for index, slowness in enumerate(verdicts) if slowness is not None]
        now = asyncio.get_running_loop().time()
        if not slow or self._task is not None or self._resolver.by_hand or not self._tries.take(now):
            return
        index, slowness = max(slow, key=lambda each: each[1].seconds)
        after = links[index + 1].inputs if index + 1 < len(links) else outputs
        self._old, self._cause, self._began = links[index], str(slowness), now
        self._task = asyncio.create_task(self._prepare(links[index], slowness, after, position), name="move")

    @property
    def busy(self) -> bool:
        """Whether a move is under way."""
        return self._task is not None

    @property
    def waits(self) -> bool:
        """Whether a replacement, or why there is none, waits to be asked for between two steps."""
        return self._task is not None and self._task.done()

    async def ready(self) -> Migrated | None:
        """The replacement, level, if there is one by now; its link is to be put in the old one's place at once."""
        task, old = self._task, self._old
        if task is None or old is None or not task.done():
            return None
        self._task = self._old = None
        replay: Replay | None = None
        try:
            replay = task.result()
            try:
                async with asyncio.timeout(SPLICE_SECONDS):
                    await replay.run()
            except TimeoutError:
                raise Staying("its replacement does not keep up") from None
            if replay.digest is not None:
                if self._auditor is not None:
                    self._auditor.doubt(old.hop.peer_id)
                raise Staying("its replacement computes other rows")
        except BaseException as error:  # whatever it is, the replacement's caches are freed
            if replay is not None:
                await close_hop_sessions(replay.links)
            self._stay(old, error)
            return None
        return Migrated(old, list(replay.links), self._cause, asyncio.get_running_loop().time() - self._began)

    async def abandon(self, link: HopSession | None = None) -> None:
        """Give up the move that is under way, or only that of `link`."""
        if self._task is None or (link is not None and link is not self._old):
            return
        task, self._task, self._old = self._task, None, None
        task.cancel()
        await asyncio.wait({task})
        with suppress(asyncio.CancelledError, Exception):  # the link failed, or the session ends: the reason is moot
            await close_hop_sessions(task.result().links)

    async def _prepare(self, old: HopSession, slowness: Slowness, after: History, position: int) -> Replay:
        """Raises Staying, HopFault, NoChain, NoRoom."""
        trace, hop = self._peers.trace, old.hop
        trace.started("session.move", peer=hop.peer_id.short, layers=hop.span, cause=str(slowness))
        chain = await self._resolver.chain(
            hop.span,
            precision=self._precision,
            numerics=old.numerics,
            barred=self._peers.avoided(strictly=True) | {hop.peer_id},
            replacing=True,
            rows=self._room.wishes(old.inputs.length),
        )
        if any(other.numerics != old.numerics for other in chain.hops):
            raise Staying("nobody else computes the very same rows")
        if not pays(slowness, self._extra(old, chain), position, self._room.most - position):
            raise Staying("no other chain is so much quicker that a replay pays")
        rows = self._resolver.rows_to_reserve(chain.hops, self._room, old.inputs.length)
        links = await open_hop_sessions(
            chain.hops, self._peers, self._resolver.model, self._precision, self._config, rows, old.inputs
        )
        try:
            replay = Replay(links, old.inputs, after, self._config.replay_rows)
            if any(link.numerics != old.numerics for link in links):
                raise Staying("nobody else computes the very same rows")
            try:
                async with asyncio.timeout(self._config.deadline_seconds):
                    await replay.run()
            except TimeoutError:
                raise Staying(f"a replay takes more than {self._config.deadline_seconds:g} s") from None
        except BaseException:  # also when the session ends meanwhile
            await close_hop_sessions(links)
            raise
        return replay

    def _extra(self, old: HopSession, chain: Chain) -> float:
        """Seconds that a row takes longer there than it usually does here, by what workers say and were measured."""
        there = self._resolver.forecast(chain.hops, old.round_trip)
        here = self._resolver.forecast([old.hop], old.round_trip, idle=True)
        if there is None:
            raise Staying("the other chain is no longer announced")
        return 0.0 if here is None else there - here

    def _stay(self, old: HopSession, error: BaseException) -> None:
        """Raises what is a fault of ours."""
        if isinstance(error, HopFault):
            for hop, each in error.failures:
                if not isinstance(each, PeerFault | Overloaded | WrongModel):
                    raise each
                if isinstance(each, Overloaded):
                    seconds = each.retry_after if math.isfinite(each.retry_after) else None
                    self._peers.suspect(hop.peer_id, seconds, full=each, span=hop.span)
                else:
                    self._peers.suspect(hop.peer_id)
        elif not isinstance(error, Staying | NoChain | NoRoom):
            raise error
        self._peers.trace.failed(
            "session.move", peer=old.hop.peer_id.short, layers=old.hop.span, reason=str(error) or repr(error)
        )

    def _tempo(self, link: HopSession) -> HopTempo:
        return HopTempo(self._resolver.forecast([link.hop], link.round_trip, idle=True))
