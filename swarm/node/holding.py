"""What a worker holds and what its record says of that; how it goes over from one span to another.

When and where to is for the mover (`moving`) to decide. While both spans find room, the new one is loaded and served before the
old one is given up; else the old one ends first, and its record says LOADING until the new one serves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from swarm.config import WorkerConfig
from swarm.discovery import Directory
from swarm.engine.backends import Stage
from swarm.engine.compute_thread import ComputeThread
from swarm.errors import SwarmError, UsageFault
from swarm.identity import Identity
from swarm.node.loading import Loader, tokens_per_second
from swarm.records import Address, ModelRef, Moving, PeerRecord, PeerState, still_here
from swarm.span import LayerSpan
from swarm.trace import Trace
from swarm.worker.announcer import Announcer
from swarm.worker.capacity import Capacity
from swarm.worker.demand import Demand
from swarm.worker.service import WorkerService
from swarm.worker.services import Services


class Holding:
    """A worker's layers: `serve` the first, then what a mover asks for."""

    def __init__(
        self,
        identity: Identity,
        directory: Directory,
        addresses: Callable[[], tuple[Address, ...]],
        model: ModelRef,
        precision: str,
        capacity: Capacity,
        *,
        loader: Loader,
        compute: ComputeThread,
        services: Services,
        service_of: Callable[[Stage], WorkerService],
        demand: Demand,
        config: WorkerConfig,
        trace: Trace,
        above: int = 0,
    ) -> None:
        self._identity = identity
        self._directory = directory
        self._addresses = addresses
        self.model = model
        self._precision = precision
        self._capacity = capacity
        self._loader = loader
        self._compute = compute
        self._services = services
        self._service_of = service_of
        self._demand = demand
        self._config = config
        self._trace = trace
        self.announcer = Announcer(directory, identity, self.describe, directory.time, trace, above)
        self._moving: Moving | None = None
        self._next: Stage | None = None  # loaded, and not served yet
        self._awaited: LayerSpan | None = None  # what is loaded while nothing is served
        self._speed = 0.0  # layers × rows a second, the best that was measured

    @property
    def serving(self) -> bool:
        """Whether there are layers that new sessions may use."""
        return self._services.serving

    @property
    def span(self) -> LayerSpan:
        """What is served."""
        return self._services.current.stage.span

    @property
    def spans(self) -> list[LayerSpan]:
        """What could be."""
        return self._loader.spans

    @property
    def record(self) -> PeerRecord:
        return self.describe(PeerState.SERVING)

    async def others(self) -> list[PeerRecord]:
        """Of the same model and precision: a chain has one. Raises SwarmError."""
        found = still_here(signed.record for signed in await self._directory.lookup(self.model))
        own = self._identity.peer_id
        return [record for record in found if record.peer_id != own and record.precision == self._precision]

    def describe(self, state: PeerState) -> PeerRecord:
        """What the worker is at this moment."""
        if self._awaited is not None:
            waits = PeerState.LOADING if state is PeerState.SERVING else state
            return replace(self.blank(self._awaited, waits), moving=self._moving)
        service = self._services.current
        stage = service.stage
        return replace(
            self.blank(stage.span, state),
            memory_free=max(0, stage.pool.budget),
            numerics=stage.numerics,
            tokens_per_second=self._speed / len(stage.span),
            cache_tokens_free=service.load().cache_tokens_free,
            asked=self._demand.rate(self._services.rows_asked),
            moving=self._moving,
        )

    def blank(self, span: LayerSpan, state: PeerState) -> PeerRecord:
        """What is known of a span before it is loaded."""
        capacity = self._capacity
        return PeerRecord(
            peer_id=self._identity.peer_id,
            addresses=self._addresses(),
            model=self.model,
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
            region=self._config.region,
        )

    async def say(self, record: PeerRecord) -> bool:
        """Announce once; whether anybody holds it now."""
        try:
            return await self.announcer.say(record) > 0
        except SwarmError as error:  # it would only have told others earlier
            self._trace.failed("worker.announce", error=str(error))
            return False

    async def claim(self, moving: Moving | None) -> bool:
        """Say where the worker is about to go, from now on, or that it stays; whether anybody heard it."""
        self._moving = moving
        return await self.say(self.record)

    async def serve(self, stage: Stage) -> None:
        """The first span, or the next one: new sessions are its own from now on."""
        measured = await self._compute.run(lambda: tokens_per_second(stage)) * len(stage.span)
        self._speed = max(self._speed, measured)  # what others compute meanwhile makes no machine slower
        await self._services.begin(self._service_of(stage))
        self._awaited = None

    def fits_beside(self, span: LayerSpan) -> bool:
        """Whether a span can be loaded while the present one is served."""
        return self._loader.shared_bytes(self._services.current.stage, span) is not None

    async def prepare(self, span: LayerSpan) -> None:
        """Load a span; beside the present one, if one is served. Raises ModelFault, UsageFault."""
        if self._awaited is not None:
            self._next = await self._loader.load(span)
            return
        service = self._services.current
        size = self._loader.shared_bytes(service.stage, span)
        if size is None:
            raise UsageFault(f"layers {span} find no room any more beside layers {service.stage.span}")
        service.resize(min(service.stage.pool.budget, size))
        self._next = await self._loader.load(span, size, service.stage)

    async def discard(self) -> None:
        """What was prepared is not served after all."""
        stage, self._next = self._next, None
        service = self._services.current
        if stage is not None:
            self._loader.keep(stage.layers, service.stage.span)
        del stage
        self._loader.settle(service.stage.span)
        service.resize(self._loader.cache_bytes(service.stage.span))

    async def switch(self) -> None:
        """Serve what was prepared, and say so. Sessions of the span before go on."""
        stage, self._next = self._next, None
        assert stage is not None, "nothing was prepared"
        await self.serve(stage)
        await self.claim(None)

    async def vacate(self, span: LayerSpan) -> None:
        """Serve nothing, to make room for a span: sessions end or move within move_seconds."""
        old = self._services.current.stage
        self._awaited = span
        self._services.retire()
        await self.say(self.record)
        await self._services.finish(self._config.move_seconds)
        self._loader.keep(old.layers, span)
        del old
        self._loader.free()

    async def settle(self) -> None:
        """What is left of the span before ends, within move_seconds; its layers are kept if there is room."""
        old = [service.stage for service in self._services.ending]
        await self._services.finish(self._config.move_seconds)
        service = self._services.current
        for stage in old:
            self._loader.keep(stage.layers, service.stage.span)
        old.clear()
        self._loader.settle(service.stage.span)
        service.resize(self._loader.cache_bytes(service.stage.span))


def device_text(capacity: Capacity) -> str:
    """What a record says of the device: `"cpu, 2 cores"`, `"cuda: NVIDIA H200"`."""
    if capacity.device_name != "cpu":
        return capacity.device_name
    return f"cpu, {capacity.cores} core{'s' if capacity.cores > 1 else ''}"
