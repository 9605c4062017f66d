"""The worker's side of a node: chooses a span, loads it, serves it, moves to others where it may, and leaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from random import Random

from swarm.checkpoint.locate import model_name
from swarm.config import SpanConfig, WorkerConfig
from swarm.discovery import Directory
from swarm.engine.backends import Model, Stage, open_model
from swarm.engine.compute_thread import ComputeThread
from swarm.errors import SwarmError, UsageFault
from swarm.identity import Identity
from swarm.node.holding import Holding
from swarm.node.leaving import await_successor
from swarm.node.loading import Loader
from swarm.node.moving import Mover
from swarm.node.precision import machine_for, settled, worker_precision
from swarm.records import Address, ModelRef, PeerRecord, PeerState, still_here
from swarm.routing.finder import coverage
from swarm.routing.placement import ahead_of, choose_span, needless
from swarm.span import LayerSpan
from swarm.trace import Trace
from swarm.worker.announcer import highest_sequence
from swarm.worker.capacity import Capacity, measure_capacity, resolve_device
from swarm.worker.demand import Demand
from swarm.worker.neighbours import Neighbours
from swarm.worker.service import WorkerService
from swarm.worker.services import Services

RESERVED_SHARE = 0.1  # of the free memory, left to the rest of the machine unless --max-memory says what may be used
MOVES = 3  # choices of a span, where others choose meanwhile
PROGRESS_STEP = 5  # percent between two lines about a long reading


class Layers:
    """`async with Layers(...)`: `service` answers once it is entered."""

    def __init__(
        self,
        serve: SpanConfig,
        identity: Identity,
        directory: Directory,
        addresses: Callable[[], tuple[Address, ...]],
        *,
        config: WorkerConfig,
        trace: Trace,
        progress: Callable[[str], None],
        neighbours: Neighbours | None = None,
        dice: Random | None = None,
    ) -> None:
        self._neighbours = neighbours  # other workers, to hand rows to
        self._serve = serve
        self._identity = identity
        self._directory = directory
        self._addresses = addresses
        self._config = config
        self._trace = trace
        self._progress = progress
        self._dice = dice or Random()
        self._stack = AsyncExitStack()
        self._precision = serve.precision  # settled once the model is known
        self._demand = Demand(time.monotonic)
        self.services = Services()
        self._holding: Holding | None = None
        self._moving: asyncio.Task[None] | None = None  # of a worker that chooses its layers

    @property
    def service(self) -> WorkerService:
        """That takes new sessions. Raises UsageFault while the first layers are being loaded."""
        return self.services.current

    @property
    def tasks(self) -> tuple[asyncio.Task[None], ...]:
        """Loops that run until the end; one that ends by itself is a bug."""
        announcing = self._holding.announcer.tasks if self._holding else ()
        return (*self.services.tasks, *announcing, *((self._moving,) if self._moving else ()))

    async def __aenter__(self) -> Layers:
        async with self._stack:
            await self._start()
            self._stack = self._stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def drain(self, part: Callable[[int], None] = lambda sequence: None) -> None:
        """Once others hold its layers, or successor_seconds later: no new sessions; those that run may end by themselves within
        drain_seconds, and the worker is DRAINING. Then GONE.

        `part` tells those who have a channel, at once, up to which sequence this worker's records count no more.
        """
        assert self._holding is not None
        await self._stop_moving()
        if self.services.serving:
            await await_successor(self._holding, self._config.successor_seconds, self._directory.time, self._progress)
        self.services.drain()
        announcer = self._holding.announcer
        part(announcer.sequence)
        if sessions := self.services.load().sessions:
            await announcer.withdraw()
            patience = await self._patience()
            self._progress(f"stopping: sessions that run here ({sessions}) may end or move within {patience:g} s")
            try:
                async with asyncio.timeout(patience):
                    await self.services.drained()
            except TimeoutError:
                self._trace.failed("worker.drain", sessions=self.services.load().sessions)
        await announcer.farewell()

    async def _patience(self) -> float:
        """Seconds that running sessions may take to end by themselves."""
        config, holding = self._config, self._holding
        assert holding is not None
        if not self.services.serving:
            return config.move_seconds
        try:
            held = coverage(await holding.others(), holding.model.layer_count, self._directory.time())
        except SwarmError:  # out of reach: nobody could be moved to
            return config.drain_seconds
        span = holding.span
        moves = all(held[span.start : span.stop])
        return min(config.move_seconds, config.drain_seconds) if moves else config.drain_seconds

    async def _stop_moving(self) -> None:
        """A move that is under way ends where it is: a span that is being loaded is not served any more."""
        if self._moving is not None:
            self._moving.cancel()
            await asyncio.gather(self._moving, return_exceptions=True)

    async def _start(self) -> None:
        serve = self._serve
        compute = await self._stack.enter_async_context(ComputeThread("compute"))
        loading = await self._stack.enter_async_context(ComputeThread("loading"))
        device = resolve_device(serve.device)
        opened = await compute.run(lambda: open_model(serve.model, serve.backend))
        if serve.layers is not None:
            opened.spec.check_span(serve.layers, str(serve.model))
        self._progress(f"checking {serve.model}")
        manifest = await compute.run(lambda: opened.manifest(self._checking))
        model = manifest.ref(model_name(serve.model))
        above = await self._look_around(model)
        capacity = measure_capacity(device, serve.max_memory)
        if serve.max_memory is None:
            capacity = replace(capacity, memory_free=int(capacity.memory_free * (1 - RESERVED_SHARE)))
        precision = self._precision = await self._settle_precision(opened, model, capacity, device)
        loader = Loader(opened, serve, precision, capacity, device, loading, self._config, self._trace, self._progress)
        holding = self._holding = Holding(
            self._identity,
            self._directory,
            self._addresses,
            model,
            precision,
            capacity,
            loader=loader,
            compute=compute,
            services=self.services,
            service_of=lambda stage: self._service(stage, model, compute),
            demand=self._demand,
            config=self._config,
            trace=self._trace,
            above=above,
        )
        self._stack.push_async_callback(holding.announcer.farewell)  # however this worker ends, if it still can
        stage = await self._loaded(holding, loader, opened)
        await self._stack.enter_async_context(self.services)
        await holding.serve(stage)
        await self._stack.enter_async_context(holding.announcer)
        await holding.announcer.first()
        self._begin_moving(holding)

    def _service(self, stage: Stage, model: ModelRef, compute: ComputeThread) -> WorkerService:
        return WorkerService(stage, model, compute, self._identity, self._config, self._trace, self._neighbours)

    def _begin_moving(self, holding: Holding) -> None:
        config = self._config
        if self._serve.layers is None and config.move_every > 0:
            mover = Mover(holding, config, self._directory.time, self._dice, self._trace, self._progress)
            self._moving = asyncio.create_task(mover.run(), name="mover")
            self._stack.push_async_callback(self._stop_moving)

    async def _look_around(self, model: ModelRef) -> int:
        """What the swarm has before this worker says anything: namesakes of its model, and what an earlier run under its key
        announced, which is replaced wherever it lies. The highest sequence of that run."""
        found = [*await self._directory.lookup_all(), *await self._directory.lookup(model)]
        self._tell_of_namesakes(model, still_here(signed.record for signed in found))
        mine = [signed for signed in found if signed.record.peer_id == self._identity.peer_id]
        if mine:
            self._directory.succeed(max(mine, key=lambda signed: signed.record.sequence))
        return highest_sequence(mine, self._identity.peer_id)

    def _tell_of_namesakes(self, model: ModelRef, records: Sequence[PeerRecord]) -> None:
        """Files that are damaged make another model under the same name, which nobody can use with the swarm's."""
        others = sorted({r.model.digest.hex()[:12] for r in records if namesake(r.model, model)})
        if others:
            self._trace.failed(
                "worker.model", name=model.name, digest=model.digest.hex()[:12], others=", ".join(others)
            )
            self._progress(
                f"the swarm serves another {model.name} (digest {', '.join(others)}; here {model.digest.hex()[:12]}): if it "
                f"should be the same, a file in {self._serve.model} is damaged or of another version"
            )

    async def _settle_precision(self, opened: Model, model: ModelRef, capacity: Capacity, device: str) -> str:
        """What was asked for; where that was left open, what fits the swarm, the files and the machine."""
        serve = self._serve
        asked = settled(serve.precision, opened, serve.wishes)
        if asked is not None:
            return asked
        machine = machine_for(opened, device, serve.numerics, capacity.memory_free)
        others, now = await self._others(model), self._directory.time()
        choice = worker_precision(opened, serve.layers, machine, others, now, serve.wishes)
        self._progress(f"precision {choice}")
        return choice.plan

    def _checking(self, done: int, total: int) -> None:
        part = done * 100 // max(1, total) // PROGRESS_STEP * PROGRESS_STEP
        self._progress(f"checking {self._serve.model}: {part} %")

    async def _loaded(self, holding: Holding, loader: Loader, opened: Model) -> Stage:
        """The layers asked for, or those that the swarm lacks most; others may have come to hold these meanwhile."""
        stage: Stage | None = None
        for move in range(1, MOVES + 1):
            span = self._serve.layers or await self._choose(holding, loader)
            stage = await loader.load(span)
            if self._serve.layers is not None or move == MOVES or not await self._is_needless(span, holding):
                break
            self._progress(f"layers {span} are held by others by now, and others by nobody: choosing again")
            stage = None  # before the next is loaded
        assert stage is not None
        return stage

    async def _choose(self, holding: Holding, loader: Loader) -> LayerSpan:
        """What the swarm lacks most, as many layers as fit: said before it is loaded, and looked at once more, since
        others may choose at the same moment."""
        fitting, model = loader.spans, holding.model
        if not fitting:
            raise UsageFault(
                f"no layers of {model} that can stand alone fit into {loader.room / 2**20:.0f} MiB and into "
                f"--layers auto:{self._serve.most_layers}: raise --max-memory or the number of layers"
            )
        span = choose_span(await holding.others(), model.layer_count, fitting, self._directory.time())
        for _ in range(MOVES):
            mine = holding.blank(span, PeerState.LOADING)
            if not await holding.say(mine):  # nobody else is there to hear it
                return span
            await asyncio.sleep(self._config.look_again_seconds)
            first = ahead_of(mine, await holding.others())
            other = choose_span(first, model.layer_count, fitting, self._directory.time())
            if other == span:
                return span
            span = other
        return span

    async def _is_needless(self, span: LayerSpan, holding: Holding) -> bool:
        return needless(span, await holding.others(), holding.model.layer_count, self._directory.time())

    async def _others(self, model: ModelRef) -> list[PeerRecord]:
        found = still_here(signed.record for signed in await self._directory.lookup(model))
        return [record for record in found if record.peer_id != self._identity.peer_id]


def namesake(one: ModelRef, other: ModelRef) -> bool:
    """Whether two models have one name and are not the same."""
    return one.name == other.name and one.digest != other.digest
