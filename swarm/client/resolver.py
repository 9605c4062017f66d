"""From the directory's records to a chain: looks records up, has their peers measured, asks `routing` for the chain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from swarm.client.audits.bans import Bans
from swarm.client.peers import Peers
from swarm.client.room import Room, RowsOf, chain_rows
from swarm.errors import NoChain, NoRoom, UsageFault, WrongModel
from swarm.identity import PeerId
from swarm.records import ModelRef, PeerRecord, PeerState, SignedRecord, still_here
from swarm.routing.chain import Chain, Hop
from swarm.routing.cost import UNMEASURED, Measurement, predicted_seconds
from swarm.routing.finder import find_chain, fixed_chain, inexact
from swarm.routing.limits import NO_LIMITS, Limits
from swarm.span import LayerSpan
from swarm.trace import Trace

FRESH_SECONDS = 5.0  # records this old are still good for choosing a chain
LOOKUP_GAP, MAX_LOOKUP_GAP = 0.25, 2.0  # seconds after a lookup that brought nothing new, and after many of them


class Directory(Protocol):
    """What a client needs of the directory."""

    async def lookup(self, model: ModelRef) -> list[SignedRecord]: ...

    async def lookup_all(self) -> list[SignedRecord]: ...


def _no_room(rows: int, most: int) -> NoRoom:
    return NoRoom(
        f"the caches of the workers that serve this model hold {most} tokens of one session, not {rows}", most
    )


def _offers(records: Mapping[PeerId, PeerRecord]) -> set[tuple[object, ...]]:
    """What of records decides whether there is a chain."""
    return {(peer, record.span, record.state, record.addresses) for peer, record in records.items()}


class Resolver:
    """Finds chains of one model for all sessions of a client."""

    def __init__(
        self,
        directory: Directory,
        peers: Peers,
        model: ModelRef,
        *,
        now: Callable[[], float],
        trace: Trace,
        precision: str | None = None,
        by_hand: Sequence[PeerId] = (),
        bans: Bans | None = None,
        bonds: Sequence[LayerSpan] = (),
        rows_of: RowsOf | None = None,
        exact: bool = False,
        numerics: str | None = None,
        shortest: bool = False,
        limits: Limits = NO_LIMITS,
    ) -> None:
        self._directory = directory
        self._peers = peers
        self.model = model
        self.precision = precision  # of the chains; None: whichever covers the layers
        self._by_hand = tuple(by_hand)
        self._bans = bans
        self._bonds = tuple(bonds)  # layers of the model that one worker holds all or none of
        self._rows_of = rows_of  # None: nobody knows how much workers can hold
        self._exact = exact  # chains are of one numerics class
        self._numerics = numerics  # that is this one; None: whichever
        self._shortest = shortest  # of all chains
        self._limits = limits  # of the workers of chains that are found, not of those that are named
        self._now = now
        self._trace = trace
        self._records: dict[PeerId, PeerRecord] = {}
        self._looked_up_at = float("-inf")
        self._gap = 0.0
        self._lookup: asyncio.Task[None] | None = None

    async def aclose(self) -> None:
        """End the lookup that is under way, if any."""
        if self._lookup is not None:
            self._lookup.cancel()
            await asyncio.wait({self._lookup})

    async def records(self, fresh: bool = False) -> list[PeerRecord]:
        """The model's unexpired records; looked up if they are old or `fresh` ones are wanted. Lookups are shared.

        While layers are missing many ask again and again: what was looked up just now is fresh.
        """
        age = asyncio.get_running_loop().time() - self._looked_up_at
        if age >= (self._gap if fresh else FRESH_SECONDS):
            if self._lookup is None or self._lookup.done():
                self._lookup = asyncio.create_task(self._look_up(), name="lookup")
            await asyncio.shield(self._lookup)
        return self._unexpired()

    def _unexpired(self) -> list[PeerRecord]:
        now = self._now()
        live = still_here(record for record in self._records.values() if not record.expired(now))
        return [record for record in live if not self._peers.has_parted(record)]

    async def _look_up(self) -> None:
        found = [signed.record for signed in await self._directory.lookup(self.model)]
        await self._peers.measure(still_here(found))
        known = {peer: record for peer, record in self._records.items() if not record.expired(self._now())}
        for record in found:
            old = known.get(record.peer_id)
            if old is None or record.sequence >= old.sequence:
                known[record.peer_id] = record
                if old is not None and old.state is PeerState.GONE is not record.state:
                    self._peers.trust(record.peer_id)  # what its earlier run did says nothing about this one
        now = asyncio.get_running_loop().time()
        news = _offers(known) != _offers(self._records) or now - self._looked_up_at > 2 * MAX_LOOKUP_GAP
        self._gap = 0.0 if news else min(MAX_LOOKUP_GAP, max(LOOKUP_GAP, 2 * self._gap))
        self._records, self._looked_up_at = known, now
        self._trace.complete("client.lookup", records=len(found))

    async def first_chain(self, rows: Sequence[int] = (0,)) -> Chain:
        """A chain over the whole model; `rows` as of `chain`.

        Raises NoChain, NoRoom, or WrongModel when only another model of that name is served.
        """
        whole = LayerSpan(0, self.model.layer_count)
        if self._by_hand:
            records = await self.records()
            chain = fixed_chain(records, self.model, self._by_hand, banned=self.banned, bonds=self._bonds)
            if self._exact and (chain.numerics is None or chain.numerics != (self._numerics or chain.numerics)):
                used = [self._records[hop.peer_id] for hop in chain.hops]
                raise UsageFault(inexact(used, self.model, whole, self._numerics))
            if self.rows_at(chain.hops, rows[-1]) < rows[-1]:
                raise _no_room(rows[-1], self.rows_at(chain.hops, rows[-1]))
            return chain
        try:
            return await self.chain(whole, rows=rows)
        except NoChain as hole:
            if len(hole.missing) == 1 and hole.missing[0] == whole:
                await self._other_model()
            raise

    async def chain(
        self,
        span: LayerSpan,
        *,
        precision: str | None = None,
        numerics: str | None = None,
        barred: frozenset[PeerId] = frozenset(),
        replacing: bool = False,
        rows: Sequence[int] = (0,),
    ) -> Chain:
        """A chain over `span`: without suspected peers, else with fresh records, else with those that failed a while ago.

        Each of its workers can hold so many `rows` of a session, or the next number of them where others cannot be had.
        In a hurry (`replacing`) what is known is tried first, however old: a lookup among dead nodes takes its time.
        Raises NoChain; NoRoom where the workers that serve, whoever is avoided now, could never hold the last number of rows.
        """
        hole: NoChain | None = None
        for fresh, strictly in ((False, True), (True, True), (False, False)):
            hurried = replacing and not fresh and strictly
            records = self._unexpired() if hurried else await self.records(fresh)
            for wanted in rows:
                try:
                    return find_chain(
                        self._roomy(records, wanted),
                        self.model,
                        span,
                        self._peers.measurements,
                        self._now(),
                        precision=precision or self.precision,
                        prefer_numerics=numerics or self._numerics,
                        exact=self._exact,
                        avoid=self._peers.avoided(strictly) | barred,
                        banned=self.banned,
                        bonds=self._bonds,
                        least=self._shortest,
                        limits=self._limits,
                    )
                except NoChain as error:
                    hole = error
        assert hole is not None
        self._check_room(span, precision or self.precision, rows[-1])
        faults = self._peers.faults()
        raise NoChain(f"{hole}. What was tried: {faults}", hole.missing) if faults else hole

    def _roomy(self, records: Sequence[PeerRecord], rows: int) -> Sequence[PeerRecord]:
        """Of those that can hold so many rows of a session."""
        rows_of = self._rows_of
        return records if rows_of is None or not rows else [each for each in records if rows_of(each) >= rows]

    def _check_room(self, span: LayerSpan, precision: str | None, rows: int) -> None:
        """Raises NoRoom where all layers are served and no chain could ever hold so many rows."""
        if self._rows_of is None or not rows:
            return
        banned = self.banned
        serving = [
            each
            for each in self._unexpired()
            if each.peer_id not in banned
            and precision in (None, each.precision)
            and each.model.digest == self.model.digest
        ]
        most = chain_rows(serving, span, self._rows_of)
        if 0 < most < rows:
            raise _no_room(rows, most)

    def rows_to_reserve(self, hops: Iterable[Hop], room: Room, held: int = 0) -> int:
        """At these, for a session that holds so many rows: those of a usual answer more, where they can hold them."""
        usual, needed = room.wishes(held)
        return max(needed, min(usual, self.rows_at(hops, usual)))

    def rows_at(self, hops: Iterable[Hop], unknown: int) -> int:
        """That a session may come to hold at all of these; `unknown`, where nobody knows."""
        known = [self._records.get(hop.peer_id) for hop in hops]
        return min((self._rows_of(each) for each in known if each and self._rows_of), default=unknown)

    @property
    def by_hand(self) -> bool:
        """Whether somebody has said which peers are to be asked."""
        return bool(self._by_hand)

    def forecast(self, hops: Iterable[Hop], round_trip: float | None, *, idle: bool = False) -> float | None:
        """Predicted seconds of one decode row through these hops; None if one of them is not known.

        `round_trip` stands in for one that was not measured. With `idle` it is that to the hop, where the least that was measured
        counts, and how busy the worker was said to be does not.
        """
        total = 0.0
        for hop in hops:
            record = self._records.get(hop.peer_id)
            if record is None:
                return None
            known = self._peers.measurements.get(hop.peer_id, UNMEASURED)
            if idle:
                known = Measurement(min((x for x in (known.round_trip, round_trip) if x is not None), default=None))
            elif known.round_trip is None:
                known = replace(known, round_trip=round_trip)
            total += predicted_seconds(record, hop.span, known)
        return total

    @property
    def banned(self) -> frozenset[PeerId]:
        """Who lied to this user."""
        return frozenset() if self._bans is None else self._bans.banned()

    def precision_of(self, chain: Chain) -> str:
        """What the workers of a chain found here compute in."""
        return self._records[chain.hops[0].peer_id].precision

    async def _other_model(self) -> None:
        """Raises WrongModel if peers serve another model under this one's name, and nobody this one."""
        served = {record.model for record in self._unexpired()}
        found = await self._directory.lookup_all()
        served |= {record.model for record in still_here(signed.record for signed in found)}
        if any(model.digest == self.model.digest for model in served):
            return  # it is its precision, or some of its layers, that is missing
        for other in sorted(served, key=lambda model: model.digest):
            if other.name == self.model.name and other.digest != self.model.digest:
                raise WrongModel(
                    f"the swarm's {other.name} has digest {other.digest.hex()}, the one here {self.model.digest.hex()}: "
                    "these are different models"
                )
