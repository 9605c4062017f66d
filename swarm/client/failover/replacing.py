"""Finds links for layers that a session lacks, when it opens and when a hop failed, and brings them level with what was given.

Whose place they take, and what becomes of the step, is decided in `session`.
"""

from __future__ import annotations

import asyncio
import math

from swarm.client.audits.auditor import Auditor
from swarm.client.audits.failover_audit import Audit
from swarm.client.deadline import Deadline
from swarm.client.failover.replay import Replay
from swarm.client.hops.history import History
from swarm.client.hops.session import HopSession
from swarm.client.hops.sessions import HopFault, close_hop_sessions, open_hop_sessions
from swarm.client.peers import Peers
from swarm.client.resolver import Resolver
from swarm.client.room import Room
from swarm.config import ClientConfig
from swarm.errors import NoChain, NoRoom, NotAllowed, Overloaded, PeerFault, WrongModel
from swarm.routing.chain import Chain, Hop
from swarm.span import LayerSpan, name_layers
from swarm.trace import Trace

REFUSED_SECONDS = 3.0  # a new session that some peer refuses has found all others by then, also those that failed


class Replacing:
    """Owned by one session."""

    def __init__(
        self,
        resolver: Resolver,
        peers: Peers,
        config: ClientConfig,
        trace: Trace,
        precision: str,
        room: Room,
        auditor: Auditor | None,
    ) -> None:
        self._resolver = resolver
        self._peers = peers
        self._config = config
        self._trace = trace
        self._precision = precision  # of every hop
        self._room = room
        self._auditor = auditor

    async def find(
        self,
        span: LayerSpan,
        inputs: History,
        after: History,
        lost: HopSession | None,
        chain: Chain | None,
        deadline: Deadline,
        *,
        full: bool = False,
    ) -> list[HopSession]:
        """Open links over `span` and bring them level with `inputs`; tries until the deadline around it ends.

        Raises NoRoom where nobody could ever hold them, or, with `full`, where nobody else holds them now.
        """
        audit = Audit(lost, after, self._auditor)
        deadline.asking = None
        began = asyncio.get_running_loop().time()
        while True:
            try:
                if chain is None:
                    chain = await self._resolver.chain(
                        span,
                        precision=self._precision,
                        numerics=lost.numerics if lost else None,
                        barred=audit.barred,
                        replacing=lost is not None,
                        rows=self._room.wishes(inputs.length),
                    )
                rows = self._resolver.rows_to_reserve(chain.hops, self._room, inputs.length)
                links = await open_hop_sessions(
                    chain.hops, self._peers, self._resolver.model, self._precision, self._config, rows, inputs
                )
                accepted = await self._level(links, inputs, after, audit, deadline)
            except HopFault as fault:
                self._endure(fault, deadline)
            except NoChain as hole:
                audit.alone(asyncio.get_running_loop().time())
                if full:
                    raise NoRoom(
                        f"no other chain has room for row {inputs.length} of this session", inputs.length
                    ) from None
                reason = deadline.waiting_for
                if isinstance(reason, NotAllowed):
                    if lost is None and asyncio.get_running_loop().time() - began > REFUSED_SECONDS:
                        raise reason from None  # waiting changes no operator's mind
                elif not isinstance(reason, Overloaded):  # else it is only avoided for a moment
                    deadline.waiting_for = self._peers.full(hole.missing) or hole
                self._trace.failed("session.wait", missing=name_layers(hole.missing), reason=str(deadline.waiting_for))
                await asyncio.sleep(self._config.retry_seconds)
            else:
                deadline.waiting_for = None
                if accepted:
                    for peer_id in audit.doubted:
                        self._peers.suspect(peer_id)
                    return links
                assert lost is not None
                self._trace.failed("session.audit", lost=lost.hop.peer_id.short, layers=span)
            chain = None

    def _endure(self, fault: HopFault, deadline: Deadline) -> None:
        """Hops of the replacement failed too: never mind whose, but not the same again at once."""
        for _, error in fault.failures:
            if not isinstance(error, PeerFault | Overloaded | WrongModel):
                raise error
        for hop, error in fault.failures:
            deadline.waiting_for = error
            self.blame(hop, error)

    async def _level(
        self, links: list[HopSession], inputs: History, after: History, audit: Audit, deadline: Deadline
    ) -> bool:
        """Whether the links are of use, brought level with `inputs`; if not they are closed. Raises HopFault, AuditFault."""
        accepted = False
        try:
            replay = Replay(links, inputs, after, self._config.replay_rows, deadline.progress)
            await replay.run()
            accepted = audit.accepts(links, replay.digest)
            if accepted:
                replay.tell()
        finally:
            if not accepted:
                await close_hop_sessions(links)
        return accepted

    def blame(self, hop: Hop, error: BaseException) -> None:
        """It failed, or has no room: others are preferred for a while."""
        if isinstance(error, Overloaded):
            seconds = error.retry_after if math.isfinite(error.retry_after) else None
            self._peers.suspect(hop.peer_id, seconds, full=error, span=hop.span)
        else:
            self._peers.suspect(hop.peer_id, fault=error)
