"""A whole swarm in one process: real workers, client, channels and engine over the in-process network."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from chaos.computers import Computer, Computes, ComputesAs
from swarm.client import Client
from swarm.config import ChannelConfig, ClientConfig, WorkerConfig
from swarm.engine.backends import open_model
from swarm.engine.compute_thread import ComputeThread
from swarm.identity import Identity
from swarm.records import RECORD_LIFETIME, Address, ModelRef, PeerRecord, PeerState, SignedRecord
from swarm.span import LayerSpan
from swarm.trace import Trace
from swarm.transport.channels.channel import Channel
from swarm.transport.channels.responses import Exchange, Handler
from swarm.transport.channels.server import ChannelServer
from swarm.transport.in_process import MemoryNetwork
from swarm.wire.messages import Message, Push
from swarm.worker.neighbours import Neighbours
from swarm.worker.service import WorkerService


class Records:
    """A directory that holds what tests put into it."""

    def __init__(self) -> None:
        self.records: dict[bytes, SignedRecord] = {}

    async def lookup(self, model: ModelRef) -> list[SignedRecord]:
        return [signed for signed in self.records.values() if signed.record.model.digest == model.digest]

    async def lookup_all(self) -> list[SignedRecord]:
        return list(self.records.values())


class LocalWorker:
    """One worker of a `LocalSwarm`. `kill()` as SIGKILL, `freeze()` as SIGSTOP."""

    def __init__(
        self, swarm: LocalSwarm, seed: int, span: LayerSpan, precision: str, computer: Computer | None = None
    ) -> None:
        self.swarm = swarm
        self.identity = Identity.from_seed(seed.to_bytes(32, "big"))
        self.peer_id = self.identity.peer_id
        self.span = span
        self.precision = precision
        self.compute: Computes = swarm.compute if computer is None else ComputesAs(swarm.compute, computer)
        self.address = Address("0.0.0.0", 0, 0, 0)  # until it listens
        self.alive = False
        self.handler: Handler | None = None  # in the place of the service's own
        self.service: WorkerService
        self.pushed: Callable[[Channel, Push], None]  # likewise, of rows that nobody waits for
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        swarm = self.swarm
        stage = swarm.opened.load_stage(
            self.span, self.precision, cache_bytes=swarm.cache_bytes, numerics=swarm.numerics
        )
        network = self.swarm.hub.node(self.peer_id)
        neighbours = await self._stack.enter_async_context(Neighbours(network, swarm.channel_config, Trace()))
        self.service = await self._stack.enter_async_context(
            WorkerService(stage, swarm.model, self.compute, self.identity, swarm.worker_config, Trace(), neighbours)
        )
        server = await self._stack.enter_async_context(
            ChannelServer(
                network,
                "",
                0,
                self._handle,
                self.swarm.channel_config,
                Trace(),
                on_close=lambda channel: self.service.connection_lost(channel.peer_id),
                load=self.service.load,
                on_push=lambda channel, push: self.pushed(channel, push),
            )
        )
        self.pushed = lambda channel, push: self.service.push(push, channel.peer_id)
        self.address = network.address(server.port)
        self.alive = True
        self.announce()

    async def _handle(self, message: Message, exchange: Exchange) -> Message:
        return await (self.handler or self.service.handle)(message, exchange)

    def announce(self, state: PeerState = PeerState.SERVING, **changes: object) -> None:
        now = time.time()
        record = PeerRecord(
            peer_id=self.peer_id,
            addresses=(self.address,),
            model=self.swarm.model,
            span=self.span,
            state=state,
            precision=self.precision,
            device="cpu",
            memory_total=1,
            memory_free=self.service.stage.pool.budget,
            numerics=self.service.stage.numerics,
            uplink=None,
            downlink=None,
            tokens_per_second=100.0,
            cache_tokens_free=1000,
            sequence=int(now * 1e6),
            expires_at=now + RECORD_LIFETIME,
        )
        signed = record.again(record.sequence, record.expires_at, **changes).sign(self.identity)
        self.swarm.records.records[self.peer_id] = signed

    def kill(self) -> None:
        """As SIGKILL: its connections break, and nothing listens any more. The record stays."""
        self.alive = False
        self.swarm.hub.kill(self.peer_id)

    def freeze(self) -> None:
        self.swarm.hub.freeze(self.peer_id)

    def thaw(self) -> None:
        self.swarm.hub.thaw(self.peer_id)

    async def idle(self) -> None:
        """Wait until nothing is queued here, nor reserved but for sessions that have ended and are kept."""
        for _ in range(10_000):
            if not self.service.load().queue_rows and self.service.stage.pool.reserved == self.service.kept_bytes:
                return
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        await self._stack.aclose()


class LocalSwarm:
    """`async with LocalSwarm(model_directory, spans) as swarm: client = await swarm.client()`."""

    def __init__(
        self,
        directory: Path,
        spans: Sequence[tuple[int, int]],
        *,
        precision: str = "fp32",
        name: str = "test",
        cache_bytes: int = 64 << 20,
        worker_config: WorkerConfig | None = None,
        client_config: ClientConfig | None = None,
        channel_config: ChannelConfig | None = None,
        backend: str = "swarm",
        numerics: str = "auto",
        computers: Sequence[Computer] = (),
    ) -> None:
        """Workers compute as `computers` do, one each, or all as this process does."""
        self.directory = directory
        self.precision = precision
        self.cache_bytes = cache_bytes
        self.worker_config = worker_config or WorkerConfig()
        self.client_config = client_config or ClientConfig()
        self.channel_config = channel_config or ChannelConfig()
        self.hub = MemoryNetwork()
        self.records = Records()
        self.backend = backend
        self.opened = open_model(directory, backend)
        self.model = self.opened.manifest().ref(name)
        self.compute = ComputeThread()
        self.numerics = numerics
        self._spans = [LayerSpan(*span) for span in spans]
        self._computers = list(computers) or [None] * len(self._spans)
        self._stack = AsyncExitStack()
        self._seeds = iter(range(1, 10_000))
        self.workers: list[LocalWorker] = []

    async def __aenter__(self) -> LocalSwarm:
        await self._stack.enter_async_context(self.compute)
        for span, computer in zip(self._spans, self._computers, strict=True):
            await self.add(span, computer=computer)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await asyncio.gather(*(worker.stop() for worker in self.workers))
        await self._stack.aclose()

    async def add(self, span: LayerSpan, precision: str | None = None, computer: Computer | None = None) -> LocalWorker:
        worker = LocalWorker(self, next(self._seeds), span, precision or self.precision, computer)
        await worker.start()
        self.workers.append(worker)
        return worker

    async def add_span(self, start: int, stop: int) -> LocalWorker:
        return await self.add(LayerSpan(start, stop))

    async def freed(self, seconds: float) -> None:
        """Wait until no living worker has a session, a cache or queued rows; so many seconds at most."""
        async with asyncio.timeout(seconds):
            for worker in self.workers:
                if worker.alive:
                    await worker.service.drained()
                    # a step that nobody waits for any more is computed to its end
                    await worker.idle()

    def worker(self, short: str) -> LocalWorker:
        return next(worker for worker in self.workers if worker.peer_id.short == short)

    def client(self, trace: Trace | None = None, model: Path | None = None, **options: object) -> Client:
        """A client of this swarm, to be entered by the caller."""
        identity = Identity.from_seed(next(self._seeds).to_bytes(32, "big"))
        return Client(
            model or self.directory,
            identity=identity,
            network=self.hub.node(identity.peer_id),
            directory=self.records,
            probe=None,
            config=self.client_config,
            channel_config=self.channel_config,
            backend=self.backend,
            trace=trace,
            **options,  # type: ignore[arg-type]
        )
