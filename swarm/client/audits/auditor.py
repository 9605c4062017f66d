"""Audits: of some sessions a span is computed again by another worker afterwards, and whoever lied about it is banned.

One link of the session, drawn when the session has ended, is compared with workers of other address blocks, who are given the
very same inputs. If they differ a third is asked: two against one settles it. Nobody is left to ask: both are only avoided.

The worker that is audited sees nothing of it. Those that are asked see a session like any other: opened by the peer that opens
all of this user's sessions, over layers that a chain might want of them, with room for more rows than will come, fed as a
replay after a failover is fed (chunks as they were, decode rows joined), and ended as sessions end. That it was an audit shows
when nothing more comes: by then every row is answered and signed. What can be known before: that it begins with a replay, so
that a worker may lie in all other sessions only, which is what the audits of those find; and, for a worker that was told of a
friend's session, that these are its rows, which it may then confirm. Therefore others are drawn at random, from other address
blocks.

Sessions of users go first: few audits at a time, none beyond a bound of bytes, workers without room are waited for, and one at
which rows of others wait is given a pause.

Trace: "audit" started, then complete with verdict="equal" or "skipped", or failed with verdict="differs" (somebody was found to
lie) or "unsettled"; "peers.ban" complete for each peer that is banned.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from random import Random
from typing import Any

from swarm.client.audits.arbitration import Arbitration, Lie, Verdict, blocks_at
from swarm.client.audits.bans import Bans
from swarm.client.audits.evidence import Account, Evidence
from swarm.client.audits.proof import prove
from swarm.client.peers import Peers
from swarm.client.resolver import Resolver
from swarm.config import ClientConfig
from swarm.errors import LocalFault, SwarmError, UsageFault
from swarm.identity import PeerId
from swarm.trace import Trace

MAX_AUDITS_AT_ONCE = 2
MAX_AUDIT_BYTES = 256 << 20  # of rows that wait to be compared; beyond it one session alone, however long, else none
MAX_DEPTH = 1  # of audits that follow from audits: which of several hops that were asked has lied
MAX_DOUBTED = 64


class Auditor:
    """`async with Auditor(...)`: leaving ends the audits that are under way."""

    def __init__(
        self,
        resolver: Resolver,
        peers: Peers,
        bans: Bans,
        config: ClientConfig,
        trace: Trace,
        random: Random,
        context: int | None = None,
    ) -> None:
        self._resolver = resolver
        self._peers = peers
        self._bans = bans
        self._config = config
        self._trace = trace
        self._random = random
        self._context = context  # rows that a session may have; None: any number
        self._gate = asyncio.Semaphore(MAX_AUDITS_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._held = 0  # bytes of rows
        self._doubted: dict[PeerId, None] = {}
        self._failure: BaseException | None = None  # a fault of ours
        self._open = False

    async def __aenter__(self) -> Auditor:
        self._open = True
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._open = False
        for task in self._tasks:
            task.cancel()
        await self.idle()
        if self._failure is not None:
            raise self._failure

    @property
    def busy(self) -> bool:
        """Whether an audit is under way."""
        return bool(self._tasks)

    async def idle(self) -> None:
        """Wait until no audit is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def session_ended(self, evidence: Sequence[Evidence]) -> None:
        """Of each of its hops, which are closed."""
        known = [each for each in evidence if each.receipts and each.outputs.length]
        doubted = [each for each in known if each.hop.peer_id in self._doubted]
        drawn = self._random.random() < self._config.audit_share
        for each in doubted:
            del self._doubted[each.hop.peer_id]
            self._audit(each)
        if known and drawn and not doubted:
            self._audit(self._random.choice(known))

    def doubt(self, peer_id: PeerId) -> None:
        """A failover contradicted it and nobody settled that: what it did in the session that ends is audited for certain."""
        self._doubted[peer_id] = None
        if len(self._doubted) > MAX_DOUBTED:
            del self._doubted[next(iter(self._doubted))]

    def settled(self, liar: Account, agreeing: tuple[Account, Account]) -> None:
        """A failover found that two accounts agree bit for bit against one. Only peers of different address blocks convict."""
        private = self._config.audit_private
        one, other = (
            frozenset(block for part in account.parts for block in blocks_at(self._peers, part.hop, private))
            for account in agreeing
        )
        if not one & other:
            self._spawn(self._convict(Lie(liar, agreeing, "other bits in a replay, in one numerics class"), 0))

    def _audit(self, part: Evidence, depth: int = 0) -> None:
        if self._held and self._held + part.bytes > MAX_AUDIT_BYTES:
            reason = f"{self._held} bytes of rows wait for an audit already"
            self._trace.complete("audit", **_named(part), verdict="skipped", reason=reason)
        elif self._open:
            self._held += part.bytes
            self._spawn(self._run(part, part.bytes, depth))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        if not self._open:
            work.close()
            return
        task = asyncio.create_task(work, name="audit")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._failure = self._failure or task.exception()
            self._trace.failed("audit", error=repr(task.exception()))

    async def _run(self, part: Evidence, size: int, depth: int) -> None:
        arbitration = Arbitration(
            part, self._resolver, self._peers, self._bans, self._config, self._random, self._context
        )
        try:
            async with self._gate:
                self._trace.started("audit", **_named(part), rows=arbitration.rows)
                verdict = await self._judge(arbitration)
                await self._enforce(verdict, depth)
                if depth and verdict.name == "equal":
                    self._peers.trust(part.hop.peer_id)  # it was doubted for its company alone
        finally:
            self._held -= size
        details = _named(part) | {"by": arbitration.by, "verdict": verdict.name, "reason": verdict.reason}
        if verdict.name in ("equal", "skipped"):
            self._trace.complete("audit", **details)
        else:
            self._trace.failed("audit", **details, liar=", ".join(str(lie.liar) for lie in verdict.lies))

    async def _judge(self, arbitration: Arbitration) -> Verdict:
        loop, seconds = asyncio.get_running_loop(), self._config.audit_seconds

        def progress() -> None:
            if not limit.expired():
                limit.reschedule(loop.time() + seconds)

        try:
            async with asyncio.timeout(seconds) as limit:
                return await arbitration.judge(progress)
        except TimeoutError:
            return Verdict("skipped", f"no worker computed any of it within {seconds:g} s")
        except LocalFault:
            raise
        except SwarmError as error:  # what is wrong with the swarm is told to those who ask it for answers
            return Verdict("skipped", str(error))

    async def _enforce(self, verdict: Verdict, depth: int) -> None:
        for peer_id in verdict.avoid:
            self._peers.suspect(peer_id)
        for lie in verdict.lies:
            await self._convict(lie, depth)

    async def _convict(self, lie: Lie, depth: int) -> None:
        """Ban a liar; of several hops each is audited by itself, as it is not known which of them lied."""
        first, *others = lie.liar.parts
        if others:
            for part in lie.liar.parts:
                self._peers.suspect(part.hop.peer_id)
                if depth < MAX_DEPTH and part.outputs.length:
                    self._audit(part, depth + 1)
            return
        peer_id, (one, other) = first.hop.peer_id, lie.agreeing
        if peer_id in self._bans.banned():
            return  # by another audit of the same time
        proof = await prove(first, lie.agreeing, lie.measure)
        reason = f"layers {first.hop.span}: {lie.measure}; {one} and {other} agree against it"
        try:
            ban = self._bans.ban(peer_id, reason, proof.as_data())
        except UsageFault as error:  # it holds all the same, until this process ends
            self._trace.failed("peers.ban", peer=peer_id.short, error=str(error))
            return
        self._trace.complete("peers.ban", peer=peer_id.short, seconds=ban.until - ban.since, reason=reason)


def _named(part: Evidence) -> dict[str, Any]:
    return {"peer": part.hop.peer_id.short, "layers": part.hop.span}
