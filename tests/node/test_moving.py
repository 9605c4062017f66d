"""Workers that move, in virtual time: no move opens a hole, one goes at a time, they come to rest, any may die at any step."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
from support.clock import run_virtual
from support.records import MODEL, make_record

from swarm.config import WorkerConfig
from swarm.errors import ModelFault
from swarm.node.moving import FAILED_LOOKS, Mover
from swarm.records import RECORD_LIFETIME, Moving, PeerRecord, PeerState
from swarm.routing.placement import fitting_spans
from swarm.span import LayerSpan
from swarm.trace import Trace

LOAD_SECONDS = 20.0
DRAIN_SECONDS = 8.0
LAYERS = MODEL.layer_count
STEPS = ("claim", "listening", "prepare", "prepared", "switch", "switched", "settle")
TIGHT_STEPS = ("vacate", "vacated", "prepare", "prepared", "switch", "switched", "settle")


def now() -> float:
    return asyncio.get_running_loop().time()


class World:
    """Workers, what they really serve, and what the directory has of them."""

    def __init__(self) -> None:
        self.workers: list[Worker] = []
        self.deaths: list[float] = []
        self.died = asyncio.Event()
        self.whole: set[int] = set()  # layers that were served when it began
        self.moves: list[tuple[float, LayerSpan, LayerSpan]] = []
        self.underway: dict[int, list[LayerSpan]] = {}  # layers of those between preparing and serving

    def held(self) -> set[int]:
        return {layer for worker in self.workers if worker.alive for span in worker.served for layer in span}

    def records(self) -> list[PeerRecord]:
        found = [worker.announced for worker in self.workers if worker.announced is not None]
        return [record for record in found if not record.expired(now())]

    def add(self, number: int, layers: str, room: int, **given: bool) -> Worker:
        worker = Worker(self, number, LayerSpan.parse(layers), room, **given)
        self.workers.append(worker)
        return worker

    async def run(self, seconds: float) -> None:
        self.whole |= self.held()
        movers = [asyncio.create_task(worker.live()) for worker in self.workers]
        await asyncio.sleep(seconds)
        for mover in movers:
            mover.cancel()
        for result in await asyncio.gather(*movers, return_exceptions=True):
            if isinstance(result, Exception):
                raise result


class Worker:
    """A holder whose loading and draining take virtual time."""

    def __init__(self, world: World, number: int, span: LayerSpan, room: int, *, tight: bool = False) -> None:
        self.world, self.number, self.span, self.tight = world, number, span, tight
        self.spans = fitting_spans([1] * LAYERS, room)
        self.served = [span]
        self.alive = True
        self.dies_at = ""
        self.fails = 0  # loads that end with an error
        self.loads = 0
        self.loading = asyncio.Event()
        self.moving: Moving | None = None
        self.awaited: LayerSpan | None = None
        self.next: LayerSpan | None = None
        self.announced: PeerRecord | None = None
        self.told: list[str] = []
        self.mover = Mover(self, WorkerConfig(), now, Random(number), Trace(), self.told.append)

    @property
    def record(self) -> PeerRecord:
        state = PeerState.SERVING if self.awaited is None else PeerState.LOADING
        record = make_record(self.number, str(self.awaited or self.span), state=state, moving=self.moving)
        speed = 100.0 / len(record.span)
        return replace(record, tokens_per_second=speed, expires_at=now() + RECORD_LIFETIME)

    @property
    def serving(self) -> bool:
        return self.awaited is None

    async def live(self) -> None:
        async with asyncio.TaskGroup() as group:
            moving = group.create_task(self.mover.run())
            while self.alive:
                self.announced = self.record
                await asyncio.sleep(5.0)
            moving.cancel()

    async def step(self, name: str) -> None:
        if name == self.dies_at:
            self.vanish()
            await asyncio.Event().wait()

    def changed(self) -> None:
        """What was served is served still, unless its last holder died."""
        dead = {layer for worker in self.world.workers if not worker.alive for span in worker.served for layer in span}
        assert self.world.whole <= self.world.held() | dead, f"a move of {self.number} opened a hole"

    async def others(self) -> list[PeerRecord]:
        await asyncio.sleep(0.1)
        return [record for record in self.world.records() if record.peer_id != self.record.peer_id]

    async def claim(self, moving: Moving | None) -> bool:
        self.moving = moving
        self.announced = self.record
        if moving is not None:
            await self.step("claim")
            await asyncio.sleep(0.1)
            if self.dies_at == "listening":
                asyncio.get_running_loop().call_later(1.0, self.vanish)
        return True

    def vanish(self) -> None:
        self.alive = False
        self.world.deaths.append(now())
        self.world.died.set()
        self.world.underway.pop(self.number, None)

    def fits_beside(self, span: LayerSpan) -> bool:
        return not self.tight

    def begin(self, span: LayerSpan) -> None:
        """From now on its layers, and while it serves the old ones these too, are nobody else's to move from or to."""
        region = [span] if self.tight else [span, self.span]
        for other in self.world.underway.values():
            assert not any(one.intersection(two) for one in (span, self.span) for two in other), "two move at a time"
        self.world.underway[self.number] = region

    async def prepare(self, span: LayerSpan) -> None:
        self.loads += 1
        self.loading.set()
        if self.awaited is None:
            self.begin(span)
        await self.step("prepare")
        await asyncio.sleep(LOAD_SECONDS)
        if self.fails:
            self.fails -= 1
            raise ModelFault("a tensor is damaged")
        self.next = span
        await self.step("prepared")

    async def discard(self) -> None:
        self.next = None
        self.world.underway.pop(self.number, None)

    async def switch(self) -> None:
        await self.step("switch")
        assert self.next is not None
        self.world.moves.append((now(), self.span, self.next))
        self.span, self.next, self.awaited = self.next, None, None
        self.served.append(self.span)
        self.moving = None
        self.announced = self.record
        self.world.underway.pop(self.number, None)
        await self.step("switched")

    async def vacate(self, span: LayerSpan) -> None:
        await self.step("vacate")
        self.begin(span)
        self.awaited = span
        self.announced = self.record
        await asyncio.sleep(DRAIN_SECONDS)
        self.served = []
        self.changed()
        await self.step("vacated")

    async def settle(self) -> None:
        await self.step("settle")
        await asyncio.sleep(DRAIN_SECONDS)
        self.served = [self.span]
        self.changed()


def crowd(world: World, tight: bool = False) -> list[Worker]:
    """Four at the first half, one at the other."""
    workers = [world.add(number, "0-4", 5, tight=tight) for number in range(1, 5)]
    return [*workers, world.add(5, "5-9", 5, tight=tight)]


def spread(workers: Sequence[Worker]) -> list[int]:
    return [sum(layer in worker.span for worker in workers if worker.alive) for layer in range(LAYERS)]


@pytest.mark.parametrize("tight", [False, True])
def test_workers_spread_one_after_another_and_come_to_rest(tight: bool) -> None:
    async def main() -> None:
        world = World()
        workers = crowd(world, tight)
        await world.run(600)
        assert min(spread(workers)) == 2
        moves = len(world.moves)
        assert moves <= 2
        await world.run(3600)
        assert len(world.moves) == moves

    run_virtual(main())


def test_many_of_all_sizes_settle_without_a_hole() -> None:
    async def main() -> None:
        world, dice = World(), Random(3)
        world.add(99, "0-9", 10)
        for number in range(1, 25):
            room = dice.randint(1, 6)
            start = dice.choice((0, 0, LAYERS - room))
            world.add(number, f"{start}-{start + room - 1}", room, tight=dice.random() < 0.5)
        before = min(spread(world.workers))
        await world.run(1800)
        moves = len(world.moves)
        await world.run(1200)
        assert len(world.moves) == moves
        assert min(spread(world.workers)) > before

    run_virtual(main())


@pytest.mark.parametrize(
    ("tight", "step"), [*((False, step) for step in STEPS), *((True, step) for step in TIGHT_STEPS)]
)
def test_a_mover_that_dies_is_in_nobody_s_way_for_long(tight: bool, step: str) -> None:
    """However far it came: its claim goes with its record, and another moves in its place."""

    async def main() -> None:
        world = World()
        workers = crowd(world, tight)
        for worker in workers:
            worker.dies_at = step
        running = asyncio.create_task(world.run(1200))
        async with asyncio.timeout(1200):
            await world.died.wait()
        for worker in workers:
            worker.dies_at = ""
        await running
        assert len(world.deaths) == 1
        survivors = [worker for worker in workers if worker.alive]
        later = [at for at, _, _ in world.moves if at > world.deaths[0]]
        assert min(spread(survivors)) >= 1
        assert max(spread(survivors)) - min(spread(survivors)) <= 1 or later
        assert all(at - world.deaths[0] < RECORD_LIFETIME + 4 * 75 for at in later)
        assert all(worker.moving is None for worker in survivors)

    run_virtual(main())


@pytest.mark.parametrize("tight", [False, True])
def test_a_span_that_cannot_be_loaded_is_left_alone_for_a_while_and_nothing_is_lost(tight: bool) -> None:
    async def main() -> None:
        world = World()
        world.add(1, "0-9", 10)
        world.add(2, "0-4", 5)
        mover = world.add(3, "0-4", 5, tight=tight)
        world.workers[1].spans = [LayerSpan(0, 5)]
        mover.fails = 1
        await world.run(200)
        assert mover.told[-1] == "not moved: a tensor is damaged"
        assert (mover.served, mover.moving, mover.awaited) == ([LayerSpan(0, 5)], None, None)
        loads = mover.loads
        await world.run(60 * FAILED_LOOKS / 2)
        assert mover.loads == loads
        await world.run(60 * FAILED_LOOKS * 2)
        assert mover.span == LayerSpan(5, 10)

    run_virtual(main())


@pytest.mark.parametrize("tight", [False, True])
def test_who_alone_holds_layers_takes_more_only_beside_them(tight: bool) -> None:
    """Where both spans find no room, its layers would be without anybody while the larger span is loaded."""

    async def main() -> None:
        world = World()
        mover = world.add(1, "0-4", 6, tight=tight)
        world.add(2, "6-9", 4).spans = [LayerSpan(6, 10)]
        await world.run(300)
        assert mover.span == LayerSpan(0, 5 if tight else 6)
        assert mover.loads == (0 if tight else 1)

    run_virtual(main())


def test_nobody_leaves_layers_to_one_who_is_still_loading_them() -> None:
    async def main() -> None:
        world = World()
        mover, loading = world.add(1, "0-4", 5), world.add(2, "0-4", 5)
        loading.awaited, loading.served, loading.spans = LayerSpan(0, 5), [], [LayerSpan(0, 5)]
        await world.run(300)
        assert (mover.span, mover.loads) == (LayerSpan(0, 5), 0)
        loading.awaited, loading.served = None, [LayerSpan(0, 5)]
        await world.run(300)
        assert mover.span == LayerSpan(5, 10)

    run_virtual(main())


def test_who_can_load_nothing_at_all_any_more_ends() -> None:
    async def main() -> None:
        world = World()
        world.add(1, "0-9", 10)
        world.add(2, "0-4", 5).spans = [LayerSpan(0, 5)]
        world.add(3, "0-4", 5, tight=True).fails = 2
        await world.run(200)

    with pytest.raises(ExceptionGroup) as told:
        run_virtual(main())
    assert [str(each) for each in told.value.exceptions] == ["a tensor is damaged"]


def test_who_alone_holds_a_layer_stays_and_who_finds_itself_alone_while_it_loads_does_too() -> None:
    async def main() -> None:
        world = World()
        one, other = world.add(1, "0-4", 5), world.add(2, "5-9", 5)
        await world.run(600)
        assert not world.moves
        mover, last = world.add(3, "0-4", 5), world.add(4, "0-4", 5)
        for worker in (one, other, last):
            worker.spans = [worker.span]
        running = asyncio.create_task(world.run(600))
        async with asyncio.timeout(600):
            await mover.loading.wait()
        for worker in (one, last):
            worker.alive = False
            worker.announced = replace(worker.record, state=PeerState.GONE)
        await running
        assert "stays at layers 0-4: others who held them have left" in mover.told
        assert (mover.span, mover.moving, world.moves) == (LayerSpan(0, 5), None, [])

    run_virtual(main())
