"""All records under one key: a crawl, then whatever the replicas hold beyond what fitted into their first answers, in pages.

Every record is verified before it is believed, and replies are merged by peer, highest sequence first. Replicas tell whose
records they hold by a fingerprint: those that have what we have are not read, and of those that agree one is. One that does
not deliver what its fingerprint says has told nothing about the others.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from kademlia.node import Node

from swarm.discovery.addresses import Endpoint
from swarm.discovery.crawl import crawl
from swarm.discovery.keys import HIGHEST, KEY_BYTES, LOWEST, fingerprint, node_id
from swarm.discovery.packets import BadDatagram, Found, Method, parse_page
from swarm.discovery.protocol import Answer, RecordProtocol
from swarm.discovery.store import MAX_PAGE_RECORDS, is_live
from swarm.errors import Overloaded, PeerFault
from swarm.identity import PeerId
from swarm.records import Address, SignedRecord

FetchPage = Callable[[Address, PeerId, bytes, int], Awaitable[tuple[list[bytes], bool]]]

BULK_RECORDS = 100  # above this many, a replica that serves pages over TCP is asked for them
MAX_BULK_PAGES = 8  # from one replica
REPLICAS_AT_ONCE = 2
ROUNDS = 4
WINDOW = 16  # pages asked for at once: 20 kB under way
SLICE_RECORDS = 4  # records meant to be in one slice: about what two datagrams hold
MAX_SLICES = 128
MAX_SLICE_PAGES = 64  # read of one slice from one replica
VERIFIED_AT_ONCE = 32  # records, before other work gets the loop: some milliseconds


class Merge:
    """The records of one key as they come in: verified, one for each peer, the highest sequence."""

    def __init__(self, protocol: RecordProtocol, key: bytes) -> None:
        self._protocol, self._key = protocol, key
        self._records: dict[bytes, SignedRecord] = {}  # by node id

    def add(self, raws: Iterable[Any]) -> set[bytes]:
        """The node ids of those that were believed."""
        now, believed = self._protocol.now(), set()
        for raw in raws:
            signed = self._protocol.store.verifier.check(raw, now)
            if signed is None or self._key not in self._protocol.store.keyspace.keys_of(signed.record):
                self._protocol.counters["unbelieved"] += 1
                continue
            place = node_id(signed.record.peer_id)
            believed.add(place)
            held = self._records.get(place)
            if held is None or held.record.sequence < signed.record.sequence:
                self._records[place] = signed
        return believed

    def fingerprint(self) -> bytes:
        return fingerprint(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def believed(self) -> list[SignedRecord]:
        """What is live now. Superseded since it came is no reason to leave a peer out, unless by what came here too."""
        now = self._protocol.now()
        return [signed for signed in self._records.values() if is_live(signed.record, now)]


@dataclass(frozen=True, slots=True)
class Replica:
    """A node that holds records of the key, by its own word."""

    answer: Answer
    count: int
    fingerprint: bytes

    @property
    def endpoint(self) -> Endpoint:
        return self.answer.node.ip, self.answer.node.port


@dataclass(slots=True)
class Reading:
    """What a replica delivered so far. It is given up at the first page that does not come, or that brings what is no record."""

    replica: Replica
    delivered: set[bytes] = field(default_factory=set)
    given_up: bool = False


class RecordLookup:
    """Reads one key. `most`: as many records as any replica may hold."""

    def __init__(self, protocol: RecordProtocol, key: bytes, fetch_page: FetchPage | None, most: int) -> None:
        self.protocol, self.key, self.fetch_page, self.most = protocol, key, fetch_page, most
        self.merge = Merge(protocol, key)
        self.heard: dict[bytes, Replica] = {}  # by node id: everybody who answered
        self._window = asyncio.Semaphore(WINDOW)

    def _hear(self, answer: Answer, found: Found) -> None:
        self.heard[answer.node.id] = Replica(answer, min(found.count, self.most), found.fingerprint)
        self.merge.add(found.records)

    async def collect(self, start: Iterable[Node], *, alpha: int, seconds: float) -> None:
        """Find within `seconds` what there is to find."""
        self.merge.add(held.signed.raw for held in self.protocol.store.held(self.key, self.protocol.now()))
        try:
            async with asyncio.timeout(seconds):
                answers = await crawl(self.protocol, self.key, start, alpha=alpha, seconds=seconds, heard=self._hear)
                near = [self.heard[answer.node.id] for answer in answers[: 2 * self.protocol.k]]
                await self._complete([replica for replica in near if replica.count])
        except TimeoutError:
            self.protocol.counters["late lookups"] += 1

    async def _complete(self, unread: list[Replica]) -> None:
        """Read replicas, a few at once, until none is left that has what we have not."""
        known: set[bytes] = set()  # fingerprints of sets that were read
        for _ in range(ROUNDS):
            known.add(self.merge.fingerprint())
            unread = [replica for replica in unread if replica.fingerprint not in known]
            chosen = choose_replicas(unread)
            if not chosen:
                return
            unread = [replica for replica in unread if replica not in chosen]
            for replica, delivered in zip(chosen, await asyncio.gather(*map(self._read, chosen)), strict=True):
                if fingerprint(delivered) == replica.fingerprint:
                    known.add(replica.fingerprint)

    async def _read(self, replica: Replica) -> set[bytes]:
        """Everything that a replica holds; the node ids of what was believed."""
        delivered: set[bytes] = set()
        if self.fetch_page is not None and replica.answer.data_port and replica.count > BULK_RECORDS:
            delivered = await self._bulk(replica, self.fetch_page)
        return delivered or await self._pages(replica)

    async def _bulk(self, replica: Replica, fetch_page: FetchPage) -> set[bytes]:
        host, port = replica.endpoint
        address = Address.of(host, replica.answer.data_port, port, 0)
        offset, delivered = 0, set()
        for _ in range(MAX_BULK_PAGES):
            try:
                raws, more = await fetch_page(address, replica.answer.peer_id, self.key, offset)
            except (PeerFault, Overloaded):
                break
            offset += len(raws)
            for first in range(0, min(len(raws), MAX_PAGE_RECORDS), VERIFIED_AT_ONCE):
                delivered |= self.merge.add(raws[first : first + VERIFIED_AT_ONCE])
                await asyncio.sleep(0)
            if not more or not raws:
                break
        return delivered

    async def _pages(self, replica: Replica) -> set[bytes]:
        """In slices of the id space, many at once: one datagram after another would take a round trip each."""
        slices = min(MAX_SLICES, -(-replica.count // SLICE_RECORDS))
        inner = [((number << 8 * KEY_BYTES) // slices).to_bytes(KEY_BYTES, "big") for number in range(1, slices)]
        reading = Reading(replica)
        parts = pairwise([LOWEST, *inner, HIGHEST])
        await asyncio.gather(*(self._slice(reading, after, until) for after, until in parts))
        return reading.delivered

    async def _slice(self, reading: Reading, after: bytes, until: bytes) -> None:
        """The records in `(after, until]`. The replica says how far a page goes, but cannot lead back."""
        for _ in range(MAX_SLICE_PAGES):
            async with self._window:
                if reading.given_up:
                    return
                raws, last = await self._page(reading.replica, after, until)
            believed = self.merge.add(raws)
            reading.delivered |= believed
            reading.given_up |= len(believed) < len(raws) or last == HIGHEST
            if not after < last < until:
                return
            after = last

    async def _page(self, replica: Replica, after: bytes, until: bytes) -> tuple[list[Any], bytes]:
        """No records, and the end of all, if there is no proper answer."""
        asked = self.key, after, until
        answer = await self.protocol.call(replica.endpoint, replica.answer.node.id, Method.PAGE, *asked)
        if answer is None:
            return [], HIGHEST
        try:
            return parse_page(answer.body)
        except BadDatagram:
            return [], HIGHEST


def choose_replicas(unread: list[Replica]) -> list[Replica]:
    """The nearest of each of the commonest fingerprints: what most say is read first, a liar's boast last."""
    nearest: dict[bytes, Replica] = {}
    for replica in unread:
        nearest.setdefault(replica.fingerprint, replica)
    commonest = Counter(replica.fingerprint for replica in unread).most_common(REPLICAS_AT_ONCE)
    return [nearest[mark] for mark, _ in commonest]
