"""The worker's side of a node: chooses a span, loads it, measures itself, serves it and announces it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

from swarm.checkpoint.locate import model_name
from swarm.config import SpanConfig, WorkerConfig
from swarm.discovery import Directory
from swarm.engine.backends import Model, Stage, open_model
from swarm.engine.compute_thread import ComputeThread
from swarm.engine.row_tensors import zero_rows
from swarm.errors import SwarmError, UsageFault
from swarm.identity import Identity
from swarm.node.precision import CACHE_SHARE, SESSION_ROWS, layer_sizes, machine_for, settled, worker_precision
from swarm.records import Address, ModelRef, PeerRecord, PeerState, still_here
from swarm.routing.finder import coverage
from swarm.routing.placement import ahead_of, at_most, choose_span, fitting_spans, needless
from swarm.span import LayerSpan
from swarm.trace import Trace
from swarm.transport.memory_trim import trim_memory
from swarm.worker.announcer import Announcer, highest_sequence
from swarm.worker.capacity import Capacity, measure_capacity, resolve_device
from swarm.worker.demand import Demand
from swarm.worker.neighbours import Neighbours
from swarm.worker.service import WorkerService

RESERVED_SHARE = 0.1  # of the free memory, left to the rest of the machine unless --max-memory says what may be used
MEASURED_STEPS = 8  # decode steps of which the fastest says how many tokens a second the span does
MEASURED_SECONDS = 0.1  # after which no further one is taken
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
    ) -> None:
        self._neighbours = neighbours  # other workers, to hand rows to
        self._serve = serve
        self._identity = identity
        self._directory = directory
        self._addresses = addresses
        self._config = config
        self._trace = trace
        self._progress = progress
        self._stack = AsyncExitStack()
        self._precision = serve.precision  # settled once the model is known
        self._capacity: Capacity | None = None  # likewise
        self._speed: float | None = None  # rows a second, once it was measured
        self._demand = Demand(time.monotonic)
        self._service: WorkerService | None = None
        self._announcer: Announcer | None = None

    @property
    def service(self) -> WorkerService:
        if self._service is None:
            raise UsageFault("this worker is still loading its layers")
        return self._service

    @property
    def tasks(self) -> tuple[asyncio.Task[None], ...]:
        """Loops that run until the end; one that ends by itself is a bug."""
        return (*self.service.tasks, *(self._announcer.tasks if self._announcer else ()))

    async def __aenter__(self) -> Layers:
        async with self._stack:
            await self._start()
            self._stack = self._stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def drain(self, part: Callable[[int], None] = lambda sequence: None) -> None:
        """No new sessions; those that run may end by themselves within drain_seconds, and the worker is DRAINING. Then GONE.

        `part` tells those who have a channel, at once, up to which sequence this worker's records count no more.
        """
        self.service.drain()
        assert self._announcer is not None
        part(self._announcer.sequence)
        if self.service.load().sessions:
            await self._announcer.withdraw()
            patience = await self._patience()
            self._progress(
                f"stopping: sessions that run here ({self.service.load().sessions}) may end or move within {patience:g} s"
            )
            try:
                async with asyncio.timeout(patience):
                    await self.service.drained()
            except TimeoutError:
                self._trace.failed("worker.drain", sessions=self.service.load().sessions)
        await self._announcer.farewell()

    async def _patience(self) -> float:
        """Seconds that running sessions may take to end by themselves."""
        service, config = self.service, self._config
        if not service.load().sessions:
            return config.drain_seconds
        try:
            held = coverage(await self._alike(service.model), service.model.layer_count, self._directory.time())
        except SwarmError:  # out of reach: nobody could be moved to
            return config.drain_seconds
        span = service.stage.span
        return (
            min(config.move_seconds, config.drain_seconds)
            if all(held[span.start : span.stop])
            else config.drain_seconds
        )

    async def _start(self) -> None:
        serve = self._serve
        compute = await self._stack.enter_async_context(ComputeThread("compute"))
        device = resolve_device(serve.device)
        opened = await compute.run(lambda: open_model(serve.model, serve.backend))
        if serve.layers is not None:
            opened.spec.check_span(serve.layers, str(serve.model))
        self._progress(f"checking {serve.model}")
        manifest = await compute.run(lambda: opened.manifest(self._checking))
        model = manifest.ref(model_name(serve.model))
        above = await self._look_around(model)
        self._announcer = announcer = Announcer(
            self._directory, self._identity, self._describe, self._directory.time, self._trace, above
        )
        self._stack.push_async_callback(announcer.farewell)  # however this worker ends, if it still can
        capacity = measure_capacity(device, serve.max_memory)
        if serve.max_memory is None:
            capacity = replace(capacity, memory_free=int(capacity.memory_free * (1 - RESERVED_SHARE)))
        self._capacity = capacity
        self._precision = await self._settle_precision(opened, model, capacity, device)
        stage = await self._loaded(opened, model, capacity, compute, device)
        self._speed = await compute.run(lambda: _tokens_per_second(stage))
        self._service = await self._stack.enter_async_context(
            WorkerService(stage, model, compute, self._identity, self._config, self._trace, self._neighbours)
        )
        await self._stack.enter_async_context(announcer)
        await announcer.first()

    def _describe(self, state: PeerState) -> PeerRecord:
        """What the service is at this moment."""
        stage = self.service.stage
        assert self._capacity is not None
        return replace(
            self._record(self.service.model, stage.span, state, self._capacity),
            memory_free=max(0, stage.pool.budget),
            precision=stage.precision,
            numerics=stage.numerics,
            tokens_per_second=self._speed,
            cache_tokens_free=self.service.load().cache_tokens_free,
            asked=self._demand.rate(self.service.rows_asked),
        )

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

    async def _loaded(
        self, opened: Model, model: ModelRef, capacity: Capacity, compute: ComputeThread, device: str
    ) -> Stage:
        """The layers asked for, or those that the swarm lacks most; others may have come to hold these meanwhile."""
        precision = self._precision
        fitting = _fitting(opened, precision, capacity, SESSION_ROWS) or _fitting(opened, precision, capacity)
        fitting = at_most(fitting, self._serve.most_layers, opened.spec.bonds)
        stage: Stage | None = None
        for move in range(1, MOVES + 1):
            span = self._serve.layers or await self._choose(fitting, model, capacity)
            stage = await self._load(opened, span, capacity, fitting, compute, device)
            if self._serve.layers is not None or move == MOVES or not await self._is_needless(span, model):
                break
            self._progress(f"layers {span} are held by others by now, and others by nobody: choosing again")
            stage = None  # before the next is loaded
        assert stage is not None
        return stage

    async def _load(
        self,
        opened: Model,
        span: LayerSpan,
        capacity: Capacity,
        fitting: Sequence[LayerSpan],
        compute: ComputeThread,
        device: str,
    ) -> Stage:
        choice = opened.numerics(self._serve.numerics, self._precision, device)
        if choice.reason is not None:
            self._trace.failed("engine.numerics", reason=choice.reason)
        _check_fit(opened, span, self._precision, capacity, fitting)
        self._progress(f"loading layers {span}")
        weights = opened.footprint(span, self._precision)
        cache_bytes = self._config.cache_bytes or int((capacity.memory_free - weights) * CACHE_SHARE)
        stage = await compute.run(
            lambda: opened.load_stage(span, self._precision, device, cache_bytes, numerics=choice.numerics)
        )
        trim_memory()
        return stage

    async def _choose(self, fitting: Sequence[LayerSpan], model: ModelRef, capacity: Capacity) -> LayerSpan:
        """What the swarm lacks most, as many layers as fit: said before it is loaded, and looked at once more, since
        others may choose at the same moment."""
        if not fitting:
            raise UsageFault(
                f"no layers of {model} that can stand alone fit into {capacity.memory_free / 2**20:.0f} MiB and into "
                f"--layers auto:{self._serve.most_layers}: raise --max-memory or the number of layers"
            )
        records = await self._alike(model)
        span = choose_span(records, model.layer_count, fitting, self._directory.time())
        for _ in range(MOVES):
            said = await self._say(self._record(model, span, PeerState.LOADING, capacity))
            if not said:  # nobody else is there to hear it
                return span
            await asyncio.sleep(self._config.look_again_seconds)
            first = ahead_of(self._record(model, span, PeerState.LOADING, capacity), await self._alike(model))
            other = choose_span(first, model.layer_count, fitting, self._directory.time())
            if other == span:
                return span
            span = other
        return span

    async def _others(self, model: ModelRef) -> list[PeerRecord]:
        found = still_here(signed.record for signed in await self._directory.lookup(model))
        return [record for record in found if record.peer_id != self._identity.peer_id]

    async def _alike(self, model: ModelRef) -> list[PeerRecord]:
        """Others of the same precision: a chain has one."""
        return [record for record in await self._others(model) if record.precision == self._precision]

    async def _is_needless(self, span: LayerSpan, model: ModelRef) -> bool:
        return needless(span, await self._alike(model), model.layer_count, self._directory.time())

    async def _say(self, record: PeerRecord) -> bool:
        """Announce once; whether anybody holds it now."""
        assert self._announcer is not None
        try:
            return await self._announcer.say(record) > 0
        except SwarmError as error:  # it would only have told others earlier
            self._trace.failed("worker.announce", error=str(error))
            return False

    def _record(self, model: ModelRef, span: LayerSpan, state: PeerState, capacity: Capacity) -> PeerRecord:
        """What is known before anything is loaded."""
        return PeerRecord(
            peer_id=self._identity.peer_id,
            addresses=self._addresses(),
            model=model,
            span=span,
            state=state,
            precision=self._precision,
            device=device_text(capacity),
            memory_total=capacity.memory_total,
            memory_free=capacity.memory_free,
            numerics="",
            uplink=None,
            downlink=None,
            tokens_per_second=0.0,
            cache_tokens_free=0,
            sequence=0,
            expires_at=0.0,
        )


def namesake(one: ModelRef, other: ModelRef) -> bool:
    """Whether two models have one name and are not the same."""
    return one.name == other.name and one.digest != other.digest


def _fitting(opened: Model, precision: str, capacity: Capacity, rows: int = 0) -> list[LayerSpan]:
    """What of the model may stand on this machine, beside caches for a session of so many rows, or of the model's context."""
    return fitting_spans(layer_sizes(opened, precision, rows), capacity.memory_free, opened.spec.bonds)


def _check_fit(
    opened: Model, span: LayerSpan, precision: str, capacity: Capacity, fitting: Sequence[LayerSpan]
) -> None:
    """Refuse before anything is loaded. Raises UsageFault with the numbers and the span that would fit."""
    needed = opened.footprint(span, precision)
    if needed <= capacity.memory_free:
        return
    less = next((each for each in fitting if each.start == span.start), None)
    advice = f"layers {less} would fit" if less else "no beginning of them would fit"
    raise UsageFault(
        f"layers {span} need {needed / 2**20:.0f} MiB in {precision}, and {capacity.memory_free / 2**20:.0f} MiB "
        f"may be used: {advice}"
    )


def device_text(capacity: Capacity) -> str:
    """What a record says of the device: `"cpu, 2 cores"`, `"cuda: NVIDIA H200"`."""
    if capacity.device_name != "cpu":
        return capacity.device_name
    return f"cpu, {capacity.cores} core{'s' if capacity.cores > 1 else ''}"


def _tokens_per_second(stage: Stage) -> float:
    """Rows a second through the span, one by one: the best of a few steps, measured on the device that serves."""
    cache = stage.open(MEASURED_STEPS + 1)
    row = zero_rows(1, stage.spec.width, stage.dtype, stage.device)
    best, start = float("inf"), time.perf_counter()
    for step in range(MEASURED_STEPS):
        if step > 1 and time.perf_counter() - start > MEASURED_SECONDS:
            break
        began = time.perf_counter()
        stage.tensor(stage.chunk(cache, row) if stage.spec.both_ways else stage.decode([(cache, row)])[0])
        if stage.spec.both_ways:
            cache.rollback(0)
        best = min(best, time.perf_counter() - began)
    cache.close()
    return 1.0 / best
