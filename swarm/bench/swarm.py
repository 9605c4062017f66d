"""Worker processes on loopback and sessions over them, as `swarm.bench.run` needs them."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import psutil

from swarm.bench.subject import Subject
from swarm.client.peers import Peers
from swarm.client.resolver import Resolver
from swarm.client.room import Room
from swarm.client.session import ChainSession
from swarm.config import ChannelConfig, ClientConfig
from swarm.engine.numerics import numerics_class, plan_named
from swarm.errors import LocalFault
from swarm.identity import Identity, PeerId
from swarm.records import Address, ModelRef, PeerRecord, PeerState, SignedRecord
from swarm.span import LayerSpan
from swarm.trace import Trace
from swarm.transport.tls.network import TlsNetwork

START_SECONDS = 300.0  # a worker that fills gigabytes with random weights, or hashes a file first
LIFETIME_SECONDS = 3600.0  # of the records, which nobody renews


@dataclass(slots=True)
class BenchWorker:
    """A worker process and the record that stands for it."""

    process: asyncio.subprocess.Process
    record: PeerRecord
    weight_bytes: int

    @property
    def resident_bytes(self) -> int:
        """Memory that the process has now."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def kill(self) -> None:
        self.process.kill()


class BenchSwarm:
    """`async with BenchSwarm(...) as swarm: async with swarm.session() as session`. A directory of its own workers."""

    def __init__(
        self,
        subject: Subject,
        spans: Sequence[LayerSpan],
        *,
        precision: str,
        numerics: str = "native",
        threads: int,
        trace: Trace | None = None,
    ) -> None:
        self.subject = subject
        self.model = subject.ref
        self.workers: list[BenchWorker] = []
        self.direct = True  # whether workers of new sessions hand rows on by themselves
        self._spans = tuple(spans)
        self._precision = precision
        self._numerics = numerics
        self._threads = threads
        self._trace = trace or Trace()
        self._stack = AsyncExitStack()
        self._peers: Peers | None = None

    async def __aenter__(self) -> BenchSwarm:
        async with self._stack:
            self.workers = list(await asyncio.gather(*(self._start(span) for span in self._spans)))
            identity = Identity.generate()
            peers = Peers(TlsNetwork(identity), ClientConfig(), ChannelConfig(), self._trace, identity=identity)
            self._peers = await self._stack.enter_async_context(peers)
            self._stack = self._stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    def session(self, max_rows: int) -> ChainSession:
        """A session over a chain of these workers, to be entered."""
        assert self._peers is not None
        resolver = Resolver(self, self._peers, self.model, now=time.time, trace=self._trace, precision=self._precision)
        config = ClientConfig(direct=self.direct)
        return ChainSession(resolver, self._peers, config, self._trace, None, self._precision, Room.whole(max_rows))

    async def lookup(self, model: ModelRef) -> list[SignedRecord]:
        """As a directory's; nobody here needs a signature."""
        return [SignedRecord(worker.record, b"") for worker in self.workers if worker.process.returncode is None]

    async def lookup_all(self) -> list[SignedRecord]:
        return await self.lookup(self.model)

    async def _start(self, span: LayerSpan) -> BenchWorker:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "swarm.bench.worker", *self.subject.options, "--layers", str(span)),
            *("--precision", self._precision, "--numerics", self._numerics, "--threads", str(self._threads)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self._stack.push_async_callback(_end, process)
        assert process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            line = (await process.stdout.readline()).decode().split()
        if len(line) != 4:
            raise LocalFault(f"a worker for layers {span} did not start")
        host, port = line[1].rsplit(":", 1)
        plan = plan_named(self._precision, self._numerics, self.model.layer_count)
        record = PeerRecord(
            peer_id=PeerId.parse(line[2]),
            addresses=(Address(host, int(port), 0, 0),),
            model=self.model,
            span=span,
            state=PeerState.SERVING,
            precision=self._precision,
            device="cpu",
            memory_total=0,
            memory_free=0,
            numerics=numerics_class(plan.between, "cpu"),
            uplink=None,
            downlink=None,
            tokens_per_second=None,
            cache_tokens_free=0,
            sequence=1,
            expires_at=time.time() + LIFETIME_SECONDS,
        )
        return BenchWorker(process, record, int(line[3]))


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()
