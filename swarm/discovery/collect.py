"""All records under one key: a crawl, then whatever the replicas hold beyond what fitted into their first answers, in pages.

Every record is verified before it is believed, and replies are merged by peer, highest sequence first. A slice of the id
space is read from two replicas at a time, in the next round from others, so that neither a liar nor a newcomer hides a record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from itertools import pairwise
from typing import Any

from swarm.discovery.crawl import crawl
from swarm.discovery.keys import HIGHEST, KEY_BYTES, LOWEST, keys_of
from swarm.discovery.packets import BadDatagram, Found, Method, parse_page
from swarm.discovery.protocol import Answer, RecordProtocol
from swarm.errors import Overloaded, PeerFault
from swarm.identity import PeerId
from swarm.records import Address, SignedRecord

FetchPage = Callable[[Address, PeerId, bytes, int], Awaitable[tuple[list[bytes], bool]]]

BULK_RECORDS = 100  # above this many, a replica that serves pages over TCP is asked for them
MAX_BULK_PAGES = 8  # from one replica
MAX_BULK_RECORDS = 256  # believed of one page
BULK_REPLICAS = 2
ROUNDS = 3
WINDOW = 16  # pages asked for at once: 20 kB under way
SLICE_RECORDS = 4  # records meant to be in one slice: about what two datagrams hold
MAX_SLICES = 128
MAX_SLICE_PAGES = 64  # read of one slice from one replica
VERIFIED_AT_ONCE = 32  # records, before other work gets the loop: some milliseconds


class Merge:
    """The records of one key as they come in: verified, one for each peer, the highest sequence."""

    def __init__(self, protocol: RecordProtocol, key: bytes) -> None:
        self._protocol, self._key = protocol, key
        self._records: dict[PeerId, SignedRecord] = {}

    def add(self, raws: Iterable[Any]) -> None:
        now = self._protocol.now()
        for raw in raws:
            signed = self._protocol.store.verifier.check(raw, now)
            if signed is None or self._key not in keys_of(signed.record):
                self._protocol.counters["unbelieved"] += 1
                continue
            held = self._records.get(signed.record.peer_id)
            if held is None or held.record.sequence < signed.record.sequence:
                self._records[signed.record.peer_id] = signed

    def __len__(self) -> int:
        return len(self._records)

    def believed(self) -> list[SignedRecord]:
        """What still holds now."""
        now, verifier = self._protocol.now(), self._protocol.store.verifier
        return [signed for signed in self._records.values() if verifier.current(signed, now)]


class Collector:
    """Reads one key."""

    def __init__(self, protocol: RecordProtocol, key: bytes, fetch_page: FetchPage | None, most: int) -> None:
        self.protocol, self.key, self.fetch_page, self.most = protocol, key, fetch_page, most
        self.merge = Merge(protocol, key)
        self.claims: dict[bytes, int] = {}  # node id -> records it says it holds, capped
        self._window = asyncio.Semaphore(WINDOW)

    def _heard(self, answer: Answer, found: Found) -> None:
        self.claims[answer.node.id] = min(found.count, self.most)
        self.merge.add(found.records)

    async def collect(self, start: Iterable[Any], *, alpha: int, seconds: float) -> list[SignedRecord]:
        """Everything found within `seconds`."""
        self.merge.add(held.signed.raw for held in self.protocol.store.held(self.key, self.protocol.now()))
        try:
            async with asyncio.timeout(seconds):
                answers = await crawl(
                    self.protocol, self.key, start, alpha=alpha, seconds=seconds, wanted=True, heard=self._heard
                )
                await self._complete(answers)
        except TimeoutError:
            self.protocol.counters["late lookups"] += 1
        return self.merge.believed()

    async def _complete(self, answers: list[Answer]) -> None:
        """Page until there is as much as the replicas say. After the first round a minority's boasts are not worth the work."""
        replicas = [answer for answer in answers[: 2 * self.protocol.k] if self.claims[answer.node.id]]
        if not replicas:
            return
        claims = sorted(self.claims[answer.node.id] for answer in replicas)
        for turn in range(ROUNDS):
            before = len(self.merge)
            if before >= (claims[len(claims) // 2] if turn else claims[-1]):
                return
            if turn == 0 and await self._bulk(replicas):
                continue
            await self._pages(replicas, max(1, claims[len(claims) // 2]), turn)
            if len(self.merge) == before:
                return

    async def _bulk(self, replicas: list[Answer]) -> bool:
        """Whether pages over TCP brought something."""
        able = [one for one in replicas if one.data_port and self.claims[one.node.id] > BULK_RECORDS]
        if self.fetch_page is None or not able:
            return False
        before = len(self.merge)
        chosen = self.protocol.random.sample(able, min(BULK_REPLICAS, len(able)))
        await asyncio.gather(*(self._bulk_from(one) for one in chosen))
        return len(self.merge) > before

    async def _bulk_from(self, replica: Answer) -> None:
        assert self.fetch_page is not None
        address = Address.of(replica.node.ip, replica.data_port, replica.node.port, 0)
        offset = 0
        for _ in range(MAX_BULK_PAGES):
            try:
                raws, more = await self.fetch_page(address, replica.peer_id, self.key, offset)
            except (PeerFault, Overloaded):
                return
            raws = raws[:MAX_BULK_RECORDS]
            offset += len(raws)
            for first in range(0, len(raws), VERIFIED_AT_ONCE):
                self.merge.add(raws[first : first + VERIFIED_AT_ONCE])
                await asyncio.sleep(0)
            if not more or not raws:
                return

    async def _pages(self, replicas: list[Answer], count: int, turn: int) -> None:
        slices = min(MAX_SLICES, -(-count // SLICE_RECORDS))
        inner = [((number << 8 * KEY_BYTES) // slices).to_bytes(KEY_BYTES, "big") for number in range(1, slices)]
        await asyncio.gather(
            *(
                self._slice(replicas[(number + 2 * turn + copy) % len(replicas)], after, until)
                for number, (after, until) in enumerate(pairwise([LOWEST, *inner, HIGHEST]))
                for copy in range(min(2, len(replicas)))
            )
        )

    async def _slice(self, replica: Answer, after: bytes, until: bytes) -> None:
        """One replica's records in `(after, until]`. It says how far a page goes, but cannot lead back."""
        to = replica.node.ip, replica.node.port
        for _ in range(MAX_SLICE_PAGES):
            async with self._window:
                answer = await self.protocol.call(to, replica.node.id, Method.PAGE, self.key, after, until)
            if answer is None:
                return
            try:
                raws, last = parse_page(answer.body)
            except BadDatagram:
                return
            self.merge.add(raws)
            if not after < last < until:
                return
            after = last
