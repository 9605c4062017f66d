"""How often a client looks records up: at once when it needs them, gently while layers are missing."""

from __future__ import annotations

import asyncio

import pytest
from support.announcements import MODEL, announcement, identity
from support.clock import run_virtual

from swarm.client.resolver import MAX_LOOKUP_GAP, Resolver
from swarm.errors import NoChain
from swarm.records import ModelRef, PeerState, SignedRecord
from swarm.span import LayerSpan
from swarm.trace import Trace

WHOLE = LayerSpan(0, MODEL.layer_count)


class Board:
    """A directory that counts who looks."""

    def __init__(self) -> None:
        self.records: list[SignedRecord] = []
        self.lookups = 0

    async def lookup(self, model: ModelRef) -> list[SignedRecord]:
        self.lookups += 1
        await asyncio.sleep(0.1)
        return list(self.records)

    lookup_all = None


class NoPeers:
    """Nobody is measured, nobody is suspected."""

    def __init__(self) -> None:
        self.measurements: dict[object, object] = {}
        self.trusted: list[object] = []

    async def measure(self, records: object) -> None: ...

    def trust(self, peer_id: object) -> None:
        self.trusted.append(peer_id)

    def faults(self) -> str:
        return ""

    def has_parted(self, record: object) -> bool:
        return False

    def avoided(self, strictly: bool) -> frozenset[bytes]:
        return frozenset()


async def wait_for_chain(resolver: Resolver) -> None:
    while True:
        try:
            await resolver.chain(WHOLE)
            return
        except NoChain:
            await asyncio.sleep(0.25)


def test_while_layers_are_missing_lookups_are_few_and_what_comes_back_is_found_soon() -> None:
    async def main() -> None:
        loop, board = asyncio.get_running_loop(), Board()
        resolver = Resolver(board, NoPeers(), MODEL, now=loop.time, trace=Trace())  # type: ignore[arg-type]
        waiting = [asyncio.create_task(wait_for_chain(resolver)) for _ in range(20)]
        await asyncio.sleep(60)
        assert board.lookups < 60 / MAX_LOOKUP_GAP + 10
        board.records = [announcement(identity(1), now=loop.time())]
        began = loop.time()
        await asyncio.gather(*waiting)
        assert loop.time() - began < MAX_LOOKUP_GAP + 0.5

    run_virtual(main())


def test_who_said_that_it_left_is_in_no_chain_and_an_older_word_of_it_does_not_bring_it_back() -> None:
    async def main() -> None:
        loop, board = asyncio.get_running_loop(), Board()
        peers = NoPeers()
        resolver = Resolver(board, peers, MODEL, now=loop.time, trace=Trace())  # type: ignore[arg-type]
        old = announcement(identity(1), now=loop.time())
        for said, there in (
            (old, True),
            (announcement(identity(1), now=loop.time(), sequence=2, state=PeerState.GONE), False),
            (old, False),
            (announcement(identity(1), now=loop.time(), sequence=3), True),
        ):
            board.records = [said]
            assert bool(await resolver.records(fresh=True)) is there
            if there:
                await resolver.chain(WHOLE)
            await asyncio.sleep(MAX_LOOKUP_GAP)
        assert peers.trusted == [old.record.peer_id]  # once, when it came back

    run_virtual(main())


def test_a_first_need_is_met_at_once_however_long_nothing_had_changed() -> None:
    async def main() -> None:
        loop, board = asyncio.get_running_loop(), Board()
        resolver = Resolver(board, NoPeers(), MODEL, now=loop.time, trace=Trace())  # type: ignore[arg-type]
        for number in range(5):
            await asyncio.sleep(70)
            board.records = [announcement(identity(number), now=loop.time(), span=LayerSpan(0, 16))]
            with pytest.raises(NoChain):
                await resolver.chain(WHOLE, replacing=True)
            board.records = [announcement(identity(number), now=loop.time(), sequence=2)]
            began = loop.time()
            await wait_for_chain(resolver)
            assert loop.time() - began < 1.0

    run_virtual(main())
