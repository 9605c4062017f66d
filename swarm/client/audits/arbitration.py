"""One audit: others are asked what they make of the same inputs, one after the other, until two agree.

Decides who lied; what becomes of them is the auditor's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from swarm.client.audits.bans import Bans
from swarm.client.audits.evidence import Account, Evidence, signed_ranges
from swarm.client.audits.proof import digests
from swarm.client.audits.second_opinion import Likeness, Ranges, SecondOpinion, compare, second_opinion
from swarm.client.audits.witnesses import blocks_of, choose_witnesses, eligible
from swarm.client.hops.sessions import HopFault
from swarm.client.peers import Peers
from swarm.client.resolver import Resolver
from swarm.config import ClientConfig
from swarm.errors import LocalFault, Overloaded, PeerFault, ProtocolFault, UsageFault
from swarm.identity import PeerId
from swarm.records import PeerRecord
from swarm.routing.chain import Hop

MAX_OPINIONS = 4  # the audited one included: a third against the second, and one more where all three differ
MAX_TRIES = 16  # chains and looks for one, until an opinion is had
BUSY_SECONDS = 2.0  # until workers that had no room are asked again


@dataclass(frozen=True, slots=True)
class Lie:
    """One account against two that agree."""

    liar: Account
    agreeing: tuple[Account, Account]
    measure: str  # how they differ, for a person


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of an audit."""

    name: Literal["equal", "differs", "unsettled", "skipped"]
    reason: str
    lies: tuple[Lie, ...] = ()
    avoid: tuple[PeerId, ...] = ()  # at least one of them lies, and nobody can say which


@dataclass(slots=True)
class Arbitration:
    """Of what one hop made of its inputs."""

    part: Evidence
    resolver: Resolver
    peers: Peers
    bans: Bans
    config: ClientConfig
    random: Random
    context: int | None  # rows that a session may have
    opinions: list[SecondOpinion] = field(default_factory=list)  # the audited one, then others
    _failed: set[PeerId] = field(default_factory=set)  # that could not be asked
    _busy: set[PeerId] = field(default_factory=set)  # that had no room a moment ago
    _alike: dict[tuple[int, int], Likeness] = field(default_factory=dict)  # of two opinions, the earlier one first

    @property
    def rows(self) -> int:
        return min(self.part.inputs.length, self.part.outputs.length)

    @property
    def _room(self) -> int:
        """Rows to ask for: one more than are sent, as in a session that ends by its length. So an audit looks like any other."""
        return self.rows + 1 if self.context is None else min(self.rows + 1, self.context)

    @property
    def by(self) -> str:
        """Who was heard."""
        return "; ".join(str(opinion.account) for opinion in self.opinions[1:])

    async def judge(self, progress: Callable[[], None]) -> Verdict:
        """`progress` is called whenever a worker has computed rows. Raises SwarmError where nobody can be asked."""
        part, rows = self.part, self.rows
        signed = signed_ranges(part.receipts, await digests(part.inputs, rows), await digests(part.outputs, rows))
        if not signed:
            return Verdict("skipped", "it signed none of the rows that the session went on with")
        self.opinions.append(await self._audited())
        while len(self.opinions) < MAX_OPINIONS:
            other = await self._another(progress)
            if other is None:
                break
            for index, known in enumerate(self.opinions):
                self._alike[index, len(self.opinions)] = await compare(known, other, part.inputs, signed)
            self.opinions.append(other)
            pair = next((pair for pair, likeness in self._alike.items() if likeness.same), None)
            if pair is not None:
                return self._two_against(pair) or await self._equal(pair, signed)
        if not self._alike:
            return Verdict("skipped", "nobody of another address block can be asked")
        reason = "; ".join(likeness.measure for likeness in self._alike.values())
        return Verdict("unsettled", reason, avoid=tuple(p for each in self.opinions for p in each.account.peers))

    def _two_against(self, pair: tuple[int, int]) -> Verdict | None:
        """Whoever contradicts both of two that agree lied; None: nobody."""
        agreeing = self.opinions[pair[0]].account, self.opinions[pair[1]].account
        lies = []
        for index, opinion in enumerate(self.opinions):
            likeness = [self._alike[min(index, each), max(index, each)] for each in pair if each != index]
            if index not in pair and all(each.same is False for each in likeness):
                lies.append(Lie(opinion.account, agreeing, likeness[0].measure))
        if not lies:
            return None
        return Verdict("differs", "; ".join(lie.measure for lie in lies), tuple(lies))

    async def _equal(self, pair: tuple[int, int], signed: Ranges) -> Verdict:
        """Two agree and nobody contradicts both. What the audited hop did not sign is looked at last."""
        if pair[0]:
            return Verdict("unsettled", "; ".join(likeness.measure for likeness in self._alike.values()))
        last = (signed[-1][1], self.rows)
        if last[0] < last[1] and len(signed) == len(self._receipts()):
            one, other = (self.opinions[each] for each in pair)
            likeness = await compare(one, other, self.part.inputs, [last])
            if likeness.same is False:
                reason = f"{likeness.measure}, which it did not sign"
                return Verdict("unsettled", reason, avoid=one.account.peers)
        return Verdict("equal", self._alike[pair].measure)

    def _receipts(self) -> list[int]:
        """Where receipts end that speak of rows of the session."""
        return [receipt.stop for receipt in self.part.receipts if receipt.stop <= self.rows]

    async def _audited(self) -> SecondOpinion:
        part = self.part
        records = {record.peer_id: record for record in await self.resolver.records()}
        record = records.get(part.hop.peer_id)
        precision = part.outputs.rows_at(0, 1).dtype if record is None else record.precision
        return SecondOpinion(Account((part,)), precision, blocks_at(self.peers, part.hop, self.config.audit_private))

    async def _another(self, progress: Callable[[], None]) -> SecondOpinion | None:
        """Of workers in address blocks that were not heard yet; None when there is nobody."""
        for _ in range(MAX_TRIES):
            found = self._draw(await self.resolver.records())
            if found is not None:
                try:
                    return await self._ask(*found, progress)
                except HopFault as fault:
                    self._endure(fault)
            elif self._busy:
                await asyncio.sleep(BUSY_SECONDS)
                self._busy.clear()
            else:
                return None
        return None

    def _draw(self, records: Sequence[PeerRecord]) -> tuple[tuple[Hop, ...], str] | None:
        asked = frozenset(peer_id for opinion in self.opinions for peer_id in opinion.account.peers)
        barred = asked | self.bans.banned() | self.peers.avoided(strictly=False) | self._failed | self._busy
        return choose_witnesses(
            eligible(records, self.resolver.model, barred, self._heard(), self.config.audit_private),
            self.part.hop.span,
            self.part.numerics,
            self.opinions[0].precision,
            self.random,
        )

    def _heard(self) -> frozenset[bytes]:
        return frozenset(block for opinion in self.opinions for block in opinion.blocks)

    async def _ask(self, hops: Sequence[Hop], precision: str, progress: Callable[[], None]) -> SecondOpinion:
        """Raises HopFault."""
        blocks: frozenset[bytes] = frozenset()
        for hop in hops:
            try:
                await self.peers.channel(hop)
            except PeerFault as error:
                raise HopFault([(hop, error)]) from error
            blocks |= blocks_at(self.peers, hop, self.config.audit_private)
            if blocks & self._heard():  # it announced another address than the one where it is
                raise HopFault([(hop, UsageFault("it is in an address block that was heard already"))])
        account = await second_opinion(
            hops,
            precision,
            self.part.inputs,
            self.rows,
            self._room,
            self.peers,
            self.resolver.model,
            self.config,
            progress,
        )
        for part in account.parts:
            if part.numerics != part.hop.numerics:
                raise HopFault([(part.hop, ProtocolFault("it computes in another numerics class than it announces"))])
        return SecondOpinion(account, precision, blocks)

    def _endure(self, fault: HopFault) -> None:
        """Those that could not be asked are not asked again, or not at once. Raises LocalFault."""
        for hop, error in fault.failures:
            if isinstance(error, LocalFault):
                raise error
            if isinstance(error, Overloaded):
                self._busy.add(hop.peer_id)
                continue
            self._failed.add(hop.peer_id)
            if isinstance(error, PeerFault):
                self.peers.suspect(hop.peer_id)


def blocks_at(peers: Peers, hop: Hop, private: bool) -> frozenset[bytes]:
    """The address blocks of a hop's peer, as far as they are known."""
    channel = peers.open_channel(hop.peer_id)
    return blocks_of(hop.addresses, None if channel is None else channel.host, private)
