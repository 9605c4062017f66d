"""A small swarm whose sessions are all audited, in virtual time: real workers, channels, sessions and audits, no directory.

Every peer has an address block of its own, unless it is told to share one. Who lies, and when, is passed in.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from random import Random

from chaos.computers import Computer, Computes, ComputesAs
from chaos.liars import Liar, Lie, Moment, always, lie
from chaos.simulation.model import CONTEXT, Prepared
from chaos.simulation.peers import Compute
from swarm.client.audits.auditor import Auditor
from swarm.client.audits.bans import Bans
from swarm.client.generate import Answer
from swarm.client.heads import Heads
from swarm.client.opening import open_chain
from swarm.client.peers import Peers
from swarm.client.resolver import Resolver
from swarm.client.room import Room
from swarm.client.session import ChainSession
from swarm.config import ChannelConfig, ClientConfig
from swarm.engine.compute_thread import InlineCompute
from swarm.errors import SwarmError
from swarm.identity import Identity, PeerId
from swarm.records import RECORD_LIFETIME, Address, ModelRef, PeerRecord, PeerState, SignedRecord
from swarm.routing.cost import Measurement
from swarm.span import LayerSpan
from swarm.trace import Event, Trace
from swarm.transport.channels.server import ChannelServer
from swarm.transport.in_process import MemoryNetwork
from swarm.worker.service import WorkerService

STEP_SECONDS = 0.01  # of one call of a worker
LATENCY = 0.002


@dataclass(frozen=True, slots=True)
class Part:
    """One worker."""

    span: LayerSpan
    precision: str
    lies: Lie | None = None
    seed: int = 0  # of its lies: those of one seed agree
    block: int | None = None  # shared with others that say the same; None: its own
    computer: Computer | None = None  # with which it computes; None: as this process does


@dataclass(slots=True)
class Session:
    """What became of one session and its audit."""

    served: frozenset[str] = frozenset()  # who was in its chain at the end
    audited: str = ""  # whose rows were recomputed; empty: nobody's
    verdict: str = ""
    banned: frozenset[str] = frozenset()
    avoided: frozenset[str] = frozenset()
    stalled: frozenset[str] = frozenset()  # who was stopped in its course
    lied: int = 0  # rows of the answer's session that were wrong
    wrong_tokens: bool = False
    error: str = ""  # with which the answer ended
    failovers: int = 0
    rows: int = 0  # computed for the answer
    recomputed: int = 0  # for the audit
    seconds: float = 0.0  # virtual, of the audit


class AuditedWorker:
    """A worker and the record of it."""

    def __init__(self, swarm: AuditedSwarm, number: int, part: Part) -> None:
        self.swarm, self.part = swarm, part
        self.identity = Identity.from_seed((number + 1).to_bytes(32, "big"))
        self.name = f"w{number}"
        block, last = (number, 1) if part.block is None else (200 + part.block, number)
        self.host = f"11.0.{block}.{last}"
        self.stage = swarm.prepared.stage(part.span, part.precision)
        if part.lies is not None:
            self.stage = lie(self.stage, part.lies, part.seed, swarm.moment)
        self.address = Address.of(self.host, 0)

    @property
    def lies(self) -> int:
        """Rows that it lied about."""
        return self.stage.lies if isinstance(self.stage, Liar) else 0

    async def start(self, stack: AsyncExitStack) -> None:
        swarm = self.swarm
        compute: Computes = Compute(STEP_SECONDS)
        if self.part.computer is not None:
            compute = ComputesAs(compute, self.part.computer)
        service = await stack.enter_async_context(
            WorkerService(self.stage, swarm.prepared.model, compute, self.identity)
        )
        network = swarm.hub.node(self.identity.peer_id, self.host)
        server = await stack.enter_async_context(
            ChannelServer(
                network,
                "",
                0,
                service.handle,
                ChannelConfig(),
                Trace(),
                load=service.load,
                on_push=lambda channel, push: service.push(push, channel.peer_id),
            )
        )
        self.address = network.address(server.port)

    def record(self, now: float) -> SignedRecord:
        record = PeerRecord(
            peer_id=self.identity.peer_id,
            addresses=(self.address,),
            model=self.swarm.prepared.model,
            span=self.part.span,
            state=PeerState.SERVING,
            precision=self.part.precision,
            device="cpu",
            memory_total=1 << 30,
            memory_free=1 << 29,
            numerics=self.stage.numerics,
            uplink=None,
            downlink=None,
            tokens_per_second=1 / STEP_SECONDS,
            cache_tokens_free=self.stage.pool.tokens_free,
            sequence=int(now * 1000),
            expires_at=now + RECORD_LIFETIME,
        )
        return record.sign(self.identity)


class AuditedSwarm:
    """`async with AuditedSwarm(...) as swarm: session = await swarm.ask()`. Every precision covers all layers.

    With `stalls`, a worker of every chain stops answering in mid-session, so that sessions fail over and compare replays.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        prepared: Prepared,
        seed: int,
        *,
        moment: Moment = always,
        only_in_audits: bool = False,
        stalls: bool = False,
        share: float = 1.0,
    ) -> None:
        self.prepared = prepared
        self._precisions = sorted({part.precision for part in parts})
        self.random = Random(f"{seed} sessions")
        self.hub = MemoryNetwork(latency=LATENCY)
        self.config = ClientConfig(audit_share=share, deadline_seconds=30.0, open_seconds=10.0)
        self._moment, self._only_in_audits, self._stalls = moment, only_in_audits, stalls
        self._auditing = False
        self._seed = seed
        self.trace = Trace(self._note)
        self.workers = [AuditedWorker(self, number, part) for number, part in enumerate(parts)]
        self._by_id = {worker.identity.peer_id: worker for worker in self.workers}
        self._names = {worker.identity.peer_id.short: worker.name for worker in self.workers}
        self._stack = AsyncExitStack()
        self._heads = {name: Heads(head, InlineCompute()) for name, head in prepared.heads.items()}
        self._now = Session()
        self._rows: Counter[bool] = Counter()  # sent to workers: for answers, and for audits

    async def __aenter__(self) -> AuditedSwarm:
        for worker in self.workers:
            await worker.start(self._stack)
        clock = asyncio.get_running_loop().time
        network = self.hub.node(Identity.from_seed(bytes(32)).peer_id, "11.1.0.1")
        self.peers = await self._stack.enter_async_context(Peers(network, self.config, ChannelConfig(), self.trace))
        self.bans = Bans(None, clock)
        self.resolver = Resolver(
            self,
            self.peers,
            self.prepared.model,
            now=clock,
            trace=self.trace,
            bans=self.bans,
        )
        self._stack.push_async_callback(self.resolver.aclose)
        self.auditor = await self._stack.enter_async_context(
            Auditor(self.resolver, self.peers, self.bans, self.config, self.trace, Random(f"{self._seed} audits"))
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def lookup(self, model: ModelRef) -> list[SignedRecord]:
        """In the place of a directory."""
        return [worker.record(asyncio.get_running_loop().time()) for worker in self.workers]

    async def lookup_all(self) -> list[SignedRecord]:
        return await self.lookup(self.prepared.model)

    def moment(self, cache: object, count: int) -> bool:
        """Whether liars lie now: as if they knew what an audit is, where they shall lie in audits only."""
        return self._auditing if self._only_in_audits else self._moment(cache, count)  # type: ignore[arg-type]

    async def ask(self) -> Session:
        """One answer over a chain drawn at random, and its audit to the end; then everybody is forgiven."""
        self._now, self._rows, self._auditing = Session(), Counter(), False
        for worker in self.workers:
            most = 0.3 if worker.part.lies is None else 0.15  # liars are found more often
            self.peers.measurements[worker.identity.peer_id] = Measurement(self.random.uniform(0.005, most))
        lies = self._lies()
        await self._answer()
        self._now.lied, self._now.rows = self._lies() - lies, self._rows[False]
        self._auditing, began = True, asyncio.get_running_loop().time()
        await self.auditor.idle()
        self._now.seconds, self._now.recomputed = asyncio.get_running_loop().time() - began, self._rows[True]
        self._now.banned = self._called(self.bans.banned())
        self._now.avoided = self._called(self.peers.avoided(strictly=True))
        for peer_id in self._by_id:
            self.bans.clear(peer_id)
            self.peers.trust(peer_id)
        return self._now

    async def _answer(self) -> None:
        self.resolver.precision = self.random.choice(self._precisions)
        asked = self.prepared.ask(self.random, self.resolver.precision)
        while len(asked.prompt) < 2 or asked.tokens < 2:  # nothing of a single row can be stale or forgotten
            asked = self.prepared.ask(self.random, self.resolver.precision)
        answer = Answer(asked.prompt, asked.options(), self.prepared.text, CONTEXT, self._open)
        stalled: PeerId | None = None
        ids = []
        try:
            async for token in answer:
                ids.append(token.id)
                if self._stalls and len(ids) == max(1, asked.tokens // 2) and isinstance(answer.session, ChainSession):
                    stalled = self.random.choice(answer.session.chain.hops).peer_id
                    self.hub.freeze(stalled)
        except SwarmError as error:
            self._now.error = str(error) or type(error).__name__
        finally:
            await answer.aclose()
        if stalled is not None:
            self.hub.thaw(stalled)
            self._now.stalled = self._called([stalled])
        self._now.wrong_tokens = ids != self.prepared.expected(asked)[: len(ids)]
        if isinstance(answer.session, ChainSession):
            self._now.failovers = len(answer.session.recoveries)
            self._now.served = self._called(hop.peer_id for hop in answer.session.chain.hops)

    @asynccontextmanager
    async def _open(self, room: Room) -> AsyncIterator[tuple[ChainSession, Heads]]:
        async def heads_for(precision: str, _: str) -> Heads:
            return self._heads[precision]

        async with open_chain(
            self.resolver, self.peers, self.config, self.trace, room, heads_for, self.auditor
        ) as opened:
            yield opened

    def _lies(self) -> int:
        return sum(worker.lies for worker in self.workers)

    def _called(self, peers: Iterable[PeerId]) -> frozenset[str]:
        return frozenset(self._by_id[peer_id].name for peer_id in peers)

    def _note(self, event: Event) -> None:
        if event.name == "hop.forward" and event.phase == "started":
            self._rows[self._auditing] += event.details["rows"]
        if event.name == "audit" and event.phase == "started":
            self._auditing = True
            self._now.audited = self._names[event.details["peer"]]
        elif event.name == "audit":
            self._now.verdict = event.details.get("verdict", event.details.get("error", ""))
