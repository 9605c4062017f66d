"""A worker's record is kept alive while it serves, and taken back when it drains."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from support.clock import run_virtual
from support.records import make_record

from swarm.errors import NoSwarm, Overloaded
from swarm.identity import Identity
from swarm.records import PeerRecord, PeerState, SignedRecord
from swarm.worker.announcer import FAREWELL_SECONDS, Announcer

IDENTITY = Identity.from_seed(b"w" * 32)


class FakeDirectory:
    def __init__(self) -> None:
        self.out_of_reach = False
        self.full = False
        self.stored = 1
        self.announced: list[tuple[float, PeerRecord]] = []

    async def announce(self, signed: SignedRecord) -> int:
        self.announced.append((asyncio.get_running_loop().time(), signed.record))
        if self.out_of_reach:
            raise NoSwarm("the test cut the wire")
        if self.full:
            raise Overloaded("the test has no room", retry_after=20.0)
        return self.stored


def announcer(directory: FakeDirectory) -> Announcer:
    def describe(state: PeerState) -> PeerRecord:
        return make_record(1, "0-9", peer_id=IDENTITY.peer_id, state=state)

    return Announcer(directory, IDENTITY, describe, lambda: asyncio.get_running_loop().time())


def test_it_announces_every_twenty_seconds_and_sooner_after_a_failure() -> None:
    async def main() -> None:
        directory = FakeDirectory()
        async with announcer(directory) as one:
            await one.first()
            await asyncio.sleep(50)
            directory.out_of_reach = True
            await asyncio.sleep(15)
            directory.out_of_reach, directory.stored = False, 0
            await asyncio.sleep(2.5)
            directory.stored = 1
            await asyncio.sleep(5)
        times = [time - directory.announced[0][0] for time, _ in directory.announced]
        assert times == [0, 20, 40, 60, 62, 64, 66, 68]
        records = [record for _, record in directory.announced]
        assert all(later.sequence > earlier.sequence for earlier, later in pairwise(records))
        assert all(record.expires_at == at + 60 for at, record in directory.announced)

    run_virtual(main())


def test_where_there_is_no_room_it_does_not_come_again_sooner_than_others() -> None:
    async def main() -> None:
        directory = FakeDirectory()
        directory.full = True
        async with announcer(directory) as one:
            await one.first()
            await asyncio.sleep(70)
        assert [time - directory.announced[0][0] for time, _ in directory.announced] == [0, 20, 40, 60]

    run_virtual(main())


def test_it_withdraws_once_and_serves_no_more() -> None:
    async def main() -> None:
        directory = FakeDirectory()
        async with announcer(directory) as one:
            await one.first()
            await one.withdraw()
            await asyncio.sleep(100)
        states = [record.state for _, record in directory.announced]
        assert states == [PeerState.SERVING, PeerState.DRAINING]
        assert directory.announced[1][1].sequence > directory.announced[0][1].sequence

    run_virtual(main())


def test_it_takes_leave_once_and_is_silent_then() -> None:
    async def main() -> None:
        directory = FakeDirectory()
        async with announcer(directory) as one:
            await one.farewell()  # nothing was said yet
            await one.say(make_record(1, "0-9", peer_id=IDENTITY.peer_id, state=PeerState.LOADING))
            for _ in range(2):
                await one.farewell()
            await asyncio.sleep(100)
        (_, loading), (_, gone) = directory.announced
        assert (loading.state, gone.state) == (PeerState.LOADING, PeerState.GONE)
        assert gone.sequence > loading.sequence
        assert gone.expires_at >= loading.expires_at

    run_virtual(main())


def test_its_farewell_outlives_what_it_said_while_swarm_time_was_ahead() -> None:
    async def main() -> None:
        directory, ahead = FakeDirectory(), 30.0
        one = Announcer(directory, IDENTITY, lambda _: make_record(1, "0-9"), lambda: 1000.0 + ahead)
        await one.say(make_record(1, "0-9", peer_id=IDENTITY.peer_id))
        ahead = 0.0
        await one.farewell()
        (_, serving), (_, gone) = directory.announced
        assert gone.expires_at == serving.expires_at
        assert gone.sequence > serving.sequence

    run_virtual(main())


def test_a_directory_that_does_not_answer_keeps_no_worker() -> None:
    async def main() -> None:
        class Stuck(FakeDirectory):
            async def announce(self, signed: SignedRecord) -> int:
                await super().announce(signed)
                return await asyncio.Future() if signed.record.state is PeerState.GONE else 1

        async with announcer(Stuck()) as one:
            await one.first()
            began = asyncio.get_running_loop().time()
            await one.farewell()
            assert asyncio.get_running_loop().time() - began == FAREWELL_SECONDS

    run_virtual(main())


def test_a_swarm_out_of_reach_keeps_no_worker_from_draining() -> None:
    async def main() -> None:
        directory = FakeDirectory()
        async with announcer(directory) as one:
            await one.first()
            directory.out_of_reach = True
            await one.withdraw()

    run_virtual(main())


def test_a_record_that_cannot_be_made_is_an_error_and_no_endless_wait() -> None:
    async def main() -> None:
        def describe(state: PeerState) -> PeerRecord:
            raise ZeroDivisionError("the test breaks the description")

        async with Announcer(FakeDirectory(), IDENTITY, describe, lambda: 0.0) as one:
            with pytest.raises(ZeroDivisionError):
                await one.first()

    run_virtual(main())
