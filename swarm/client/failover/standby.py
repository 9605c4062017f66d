"""For each link another worker that is given the same rows in the background: when the link is lost it is level but for a few.

That costs the swarm as much computing again, and is done for whoever asks for it. What a standby computes is compared with what
came of the rows, as in a replay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from swarm.client.audits.auditor import Auditor
from swarm.client.failover.replay import Replay
from swarm.client.forwarding.quiet import after_each
from swarm.client.hops.history import History
from swarm.client.hops.session import HopSession
from swarm.client.hops.sessions import HopFault, close_hop_sessions, open_hop_sessions
from swarm.client.peers import Peers
from swarm.client.resolver import Resolver
from swarm.client.room import Room
from swarm.config import ClientConfig
from swarm.errors import LocalFault, NoChain, Overloaded, PeerFault, SwarmError
from swarm.identity import PeerId

FEED_ROWS = 16  # that a standby is behind before it is given more, in one message
PAUSE_SECONDS = 1.0  # after a try to find one that failed, doubling up to ...
MOST_PAUSE_SECONDS = 60.0
READY_SECONDS = 1.0  # for what is on its way to a standby when it is needed


@dataclass(slots=True, eq=False)
class Standby:
    """Of one link."""

    link: HopSession
    after: History  # what came of the link's inputs
    grew: asyncio.Event = field(default_factory=asyncio.Event)
    wanted: bool = False  # in the link's place: nothing more is begun
    replay: Replay | None = None  # once its sessions are open
    task: asyncio.Task[None] | None = None


class Standbys:
    """Owned by one session: `tend` after rows came through, `take` when a link is lost."""

    def __init__(
        self,
        resolver: Resolver,
        peers: Peers,
        config: ClientConfig,
        precision: str,
        room: Room,
        auditor: Auditor | None,
    ) -> None:
        self.rows = 0  # computed by standbys
        self.peers: dict[PeerId, None] = {}  # that stood by, at most one more for each try
        self._resolver = resolver
        self._peers = peers
        self._config = config
        self._precision = precision
        self._room = room
        self._auditor = auditor
        self._standbys: dict[HopSession, Standby] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    def tend(self, links: Sequence[HopSession], outputs: History) -> None:
        """Have a standby for each of these links, and none for others; let them have the rows that there are."""
        for old in [link for link in self._standbys if link not in links]:
            self._drop(self._standbys.pop(old))
        for link, after in zip(links, after_each(links, outputs), strict=True):
            standby = self._standbys.get(link)
            if standby is None:
                standby = self._standbys[link] = Standby(link, after)
                standby.task = asyncio.create_task(self._stand_by(standby), name="standby")
            reached = standby.replay.reached if standby.replay is not None else 0
            if min(link.inputs.length, after.length) - reached >= FEED_ROWS:
                standby.grew.set()

    async def take(self, lost: HopSession) -> list[HopSession] | None:
        """Links in the place of a lost one, level with what it was given; None: there are none, and others are to be found."""
        standby = self._standbys.pop(lost, None)
        if standby is None or standby.replay is None or standby.task is None:
            if standby is not None:
                self._drop(standby)
            return None
        standby.wanted = True
        standby.grew.set()
        replay, level = standby.replay, False
        try:
            async with asyncio.timeout(READY_SECONDS + self._config.deadline_seconds / 2):
                await asyncio.wait({standby.task}, timeout=READY_SECONDS)
                if standby.task.done() and standby.replay is not None:
                    await replay.run()
                    level = replay.digest is None
        except (HopFault, TimeoutError) as error:  # it failed as well
            self._tell(standby, error)
        finally:
            if not level:
                self._drop(standby)
        if not level:
            return None
        replay.tell()
        return list(replay.links)

    async def close(self) -> None:
        """Nobody stands by any more."""
        for standby in self._standbys.values():
            self._drop(standby)
        self._standbys.clear()
        await asyncio.gather(*self._leaving)

    def _drop(self, standby: Standby) -> None:
        leaving = asyncio.create_task(self._leave(standby), name="standby")
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

    async def _leave(self, standby: Standby) -> None:
        assert standby.task is not None
        standby.task.cancel()
        await asyncio.wait({standby.task})
        if not standby.task.cancelled():
            standby.task.result()  # what it raises is a bug of ours
        replay, standby.replay = standby.replay, None
        if replay is not None:
            await close_hop_sessions(replay.links)

    async def _stand_by(self, standby: Standby) -> None:
        """Find one and let it follow, as often as it takes."""
        pause = PAUSE_SECONDS
        while not standby.wanted:
            try:
                standby.replay = await self._open(standby)
                pause = PAUSE_SECONDS
                await self._follow(standby, standby.replay)
                if standby.wanted:
                    return
                self._doubt(standby)
            except (SwarmError, HopFault) as error:  # whatever it is but a fault of ours, the session goes on without
                self._tell(standby, error)
            replay, standby.replay = standby.replay, None
            if replay is not None:
                await close_hop_sessions(replay.links)
            await asyncio.sleep(pause)
            pause = min(MOST_PAUSE_SECONDS, 2 * pause)

    async def _open(self, standby: Standby) -> Replay:
        """Raises NoChain, NoRoom, HopFault."""
        link, config = standby.link, self._config
        chain = await self._resolver.chain(
            link.hop.span,
            precision=self._precision,
            numerics=link.numerics,
            barred=self._peers.avoided(strictly=True) | {link.hop.peer_id},
            replacing=True,
            rows=self._room.wishes(link.inputs.length),
        )
        if any(hop.numerics != link.numerics for hop in chain.hops):
            raise NoChain("nobody else computes the very same rows")
        rows = self._resolver.rows_to_reserve(chain.hops, self._room, link.inputs.length)
        model = self._resolver.model
        links = await open_hop_sessions(chain.hops, self._peers, model, self._precision, config, rows, link.inputs)
        self.peers |= dict.fromkeys(each.hop.peer_id for each in links)
        peers = ", ".join(each.hop.peer_id.short for each in links)
        self._peers.trace.complete("session.standby", peer=link.hop.peer_id.short, layers=link.hop.span, to=peers)
        return Replay(links, link.inputs, standby.after, config.replay_rows)

    async def _follow(self, standby: Standby, replay: Replay) -> None:
        """Until it is wanted, or computes other rows than the link. Raises HopFault."""
        while not standby.wanted and replay.digest is None:
            standby.grew.clear()
            before = replay.reached
            await replay.follow(lambda: standby.wanted)
            self.rows += replay.reached - before
            if replay.reached == before:
                await standby.grew.wait()

    def _doubt(self, standby: Standby) -> None:
        """One of the two computes wrongly; a failover or an audit will show which."""
        if self._auditor is not None:
            self._auditor.doubt(standby.link.hop.peer_id)
        self._tell(standby, "it computes other rows")

    def _tell(self, standby: Standby, reason: object) -> None:
        """What became of a standby. Raises what is a fault of ours."""
        hop = standby.link.hop
        if isinstance(reason, LocalFault):
            raise reason
        for failed, error in reason.failures if isinstance(reason, HopFault) else ():
            if isinstance(error, LocalFault):
                raise error
            if isinstance(
                error, PeerFault | Overloaded
            ):  # else nothing is wrong with it: our client may have been closed
                self._peers.suspect(failed.peer_id)
        self._peers.trace.failed("session.standby", peer=hop.peer_id.short, layers=hop.span, reason=str(reason))
