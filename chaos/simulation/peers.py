"""The processes of a simulated swarm: a bootstrap, workers, clients. Each can die at any moment, and come back.

They are made of what a real one is made of, except for sockets, the compute thread and TLS.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from random import Random
from typing import Any, TypeVar

from chaos.process import Inside, Turncoat
from chaos.simulation.model import CONTEXT, Ask
from chaos.simulation.surroundings import Surroundings
from swarm.client.audits.auditor import Auditor
from swarm.client.audits.bans import Bans
from swarm.client.generate import Answer
from swarm.client.heads import Heads
from swarm.client.opening import open_chain
from swarm.client.peers import Peers
from swarm.client.prefixes.cache import PrefixCache, Prompt
from swarm.client.resolver import Resolver
from swarm.client.room import Room
from swarm.client.session import ChainSession
from swarm.discovery import Directory
from swarm.engine.compute_thread import InlineCompute
from swarm.errors import NoSwarm
from swarm.identity import Identity, PeerId
from swarm.records import Address, PeerRecord, PeerState
from swarm.span import LayerSpan
from swarm.transport.channels.server import ChannelServer
from swarm.transport.in_process import MemoryNode
from swarm.worker.announcer import Announcer, highest_sequence
from swarm.worker.neighbours import Neighbours
from swarm.worker.service import WorkerService

EPOCH = 1.7e9  # what the wall clock shows when the loop's shows 0
PORT = 7700
BOOTSTRAP = "b0"
REJOIN_SECONDS = 2.0  # a process that finds nobody at its start is started again after so long

T = TypeVar("T")


class Compute:
    """Computes on the event loop, after the virtual time that it takes."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def run(self, function: Callable[[], T]) -> T:
        await asyncio.sleep(self.seconds)
        return function()


class Peer:
    """One process of the swarm. `kill` as SIGKILL, `pause` as SIGSTOP."""

    def __init__(self, world: Surroundings, name: str, number: int) -> None:
        self.world = world
        self.name = name
        self.identity = Identity.from_seed(number.to_bytes(32, "big"))
        self.host = f"11.{number // 250}.{number % 250}.1"  # every one in an address block of its own
        self.skew = 0.0  # seconds that its clock is ahead
        self.alive = False
        self.directory: Directory
        self._lives = 0
        self._stack = AsyncExitStack()
        self._ending: asyncio.Task[None] | None = None  # of the life before
        self._starting = False
        self._leaving: asyncio.Task[None] | None = None  # it was told to stop, and finishes what it does
        self._life: asyncio.Task[None]  # of its start

    @property
    def peer_id(self) -> PeerId:
        return self.identity.peer_id

    @property
    def network(self) -> MemoryNode:
        return self.world.hub.node(self.peer_id, self.host)

    def now(self) -> float:
        return EPOCH + asyncio.get_running_loop().time() + self.skew

    async def start(self) -> None:
        """Come to life; again after a death, with the same key and no memory."""
        if self._starting or (self.alive and self._leaving is None):
            return
        self._starting = True
        if self._leaving is not None:
            await asyncio.wait({self._leaving})
            self._leaving = None
        if self._ending is not None:
            await self._ending
        self.world.switch.heal(self.host)
        self._lives += 1
        self._starting, self.alive = False, True
        life = self._life = asyncio.create_task(self._start(self._stack))
        await asyncio.wait({life})
        if not life.cancelled():  # else it was killed before it was ready
            life.result()

    def kill(self) -> None:
        if not self.alive:
            return
        self.alive = False
        assert self.network  # a peer that only ever dialled has one too
        self.world.hub.kill(self.peer_id)
        self.world.switch.kill(self.host)
        stack, self._stack = self._stack, AsyncExitStack()
        if self._leaving is not None:
            self._leaving.cancel()
        self._ending = self.world.spawn(self._end(stack, self._life))

    async def stop(self) -> None:
        if self.alive:
            self.alive = False
            await self._end(self._stack, self._life)

    @staticmethod
    async def _end(stack: AsyncExitStack, life: asyncio.Task[None]) -> None:
        life.cancel()
        await asyncio.wait({life})
        await stack.aclose()

    async def _start(self, stack: AsyncExitStack) -> None:
        await self._listen(stack, passive=False)
        await self._join()

    async def _listen(self, stack: AsyncExitStack, passive: bool) -> None:
        world = self.world
        first = self.name == BOOTSTRAP
        self.directory = await stack.enter_async_context(
            Directory(
                self.identity,
                host=self.host,
                port=PORT,
                bootstrap=[] if first else [world.bootstrap],
                passive=passive,
                config=world.directory_config,
                now=self.now,
                random=Random(f"{world.seed} {self.name} {self._lives}"),
                open_socket=world.switch.opener(self.host),
                trace=world.trace,
            )
        )

    async def _join(self) -> None:
        while True:
            try:
                await self.directory.join()
                return
            except NoSwarm:  # a daemon ends with this error, and whoever runs it starts it again
                await asyncio.sleep(REJOIN_SECONDS)

    def __repr__(self) -> str:
        return f"<{self.name} {self.peer_id.short}{'' if self.alive else ', dead'}>"


class Worker(Peer):
    """A peer that holds layers."""

    service: WorkerService
    address: Address

    def __init__(self, world: Surroundings, name: str, number: int, span: LayerSpan, precision: str) -> None:
        super().__init__(world, name, number)
        self.span, self.precision = span, precision
        self.compute = Compute(world.topology.step_seconds)
        self.inside = Inside()  # its faults that no wire shows
        self._announcer: Announcer | None = None  # once it serves
        self._server: ChannelServer | None = None  # once it listens

    async def _start(self, stack: AsyncExitStack) -> None:
        world = self.world
        stage: Any = Turncoat(world.prepared.stage(self.span, self.precision), lambda: self.inside)
        network = self.network
        neighbours = await stack.enter_async_context(Neighbours(network, world.channel_config, world.trace))
        parts = (stage, world.prepared.model, self.compute, self.identity, world.worker_config, world.trace)
        self.service = service = await stack.enter_async_context(WorkerService(*parts, neighbours))
        self._server = server = await stack.enter_async_context(
            ChannelServer(
                network,
                "",
                0,
                service.handle,
                world.channel_config,
                world.trace,
                on_close=lambda channel: service.connection_lost(channel.peer_id),
                load=service.load,
                on_push=lambda channel, push: service.push(push, channel.peer_id),
            )
        )
        self.address = network.address(server.port)
        await self._listen(stack, passive=False)
        await self._join()
        above = highest_sequence(await self.directory.lookup(world.prepared.model), self.peer_id)
        self._announcer = Announcer(
            self.directory, self.identity, self._describe, self.directory.time, world.trace, above
        )
        await stack.enter_async_context(self._announcer)

    def drain(self) -> None:
        """As SIGTERM: sessions may end by themselves, new ones are refused, then the process ends."""
        if self.alive and self._leaving is None and self._announcer is not None:
            self._leaving = self.world.spawn(self._drain(self._announcer))

    def kill(self) -> None:
        self._announcer = None
        super().kill()

    async def _drain(self, announcer: Announcer) -> None:
        self.service.drain()
        if self._server is not None:
            self._server.part(announcer.sequence)
        with suppress(asyncio.CancelledError):  # killed meanwhile
            await announcer.withdraw()
            with suppress(TimeoutError):
                async with asyncio.timeout(self.world.worker_config.drain_seconds):
                    await self.service.drained()
            await announcer.farewell()
            self._announcer, self.alive = None, False
            stack, self._stack = self._stack, AsyncExitStack()
            self._ending = self.world.spawn(self._exit(stack))

    async def _exit(self, stack: AsyncExitStack) -> None:
        await stack.aclose()
        self.world.hub.kill(self.peer_id)
        self.world.switch.kill(self.host)

    def _describe(self, state: PeerState) -> PeerRecord:
        stage = self.service.stage
        return PeerRecord(
            peer_id=self.peer_id,
            addresses=(self.address,),
            model=self.world.prepared.model,
            span=self.span,
            state=state,
            precision=self.precision,
            device="cpu",
            memory_total=1 << 30,
            memory_free=1 << 29,
            numerics=stage.numerics,
            uplink=None,
            downlink=None,
            tokens_per_second=1 / self.world.topology.step_seconds,
            cache_tokens_free=self.service.load().cache_tokens_free,
            sequence=0,
            expires_at=0.0,
        )

    def leftovers(self) -> str:
        """What sessions that are gone have left here, but for those that are kept; empty when nothing."""
        load, reserved = self.service.load(), self.service.stage.pool.reserved - self.service.kept_bytes
        counts = {"sessions": load.sessions, "rows queued": load.queue_rows, "cache bytes": reserved}
        return ", ".join(f"{count} {what}" for what, count in counts.items() if count)


class Asker(Peer):
    """A peer that asks: what `swarm.Client` is made of, with compute inline."""

    peers: Peers
    auditor: Auditor

    def __init__(self, world: Surroundings, name: str, number: int, precision: str) -> None:
        super().__init__(world, name, number)
        self.precision = precision
        self.ready = asyncio.Event()  # it can be asked
        self.callers: dict[asyncio.Task[Any], None] = {}  # who wait for answers; they die with it
        self.bans = Bans(None, self.now)  # kept through its deaths, as on disk
        self._heads = Heads(world.prepared.heads[precision], InlineCompute())

    async def _start(self, stack: AsyncExitStack) -> None:
        world = self.world
        await self._listen(stack, passive=True)
        await self._join()
        self.peers = await stack.enter_async_context(
            Peers(self.network, world.client_config, world.channel_config, world.trace, identity=self.identity)
        )
        self._resolver = Resolver(
            self.directory,
            self.peers,
            world.prepared.model,
            now=self.directory.time,
            trace=world.trace,
            precision=self.precision,
            bans=self.bans,
        )
        stack.push_async_callback(self._resolver.aclose)
        self.auditor = await stack.enter_async_context(
            Auditor(
                self._resolver,
                self.peers,
                self.bans,
                world.client_config,
                world.trace,
                Random(f"{world.seed} {self.name} {self._lives} audits"),
            )
        )
        self._kept = await stack.enter_async_context(
            PrefixCache(self._resolver, self.peers, world.client_config, world.trace)
        )
        self.ready.set()

    def kill(self) -> None:
        self.ready.clear()
        super().kill()
        for caller in self.callers:
            caller.cancel()

    def answer(self, ask: Ask) -> Answer:
        known: Prompt | None = Prompt("", ask.prompt, lambda: answer.finish_reason is not None)
        if self.world.liars:
            known = None  # rows of a lie are kept like any other, and healing does not undo them
        text = self.world.prepared.text
        answer = Answer(ask.prompt, ask.options(), text, CONTEXT, lambda max_rows: self._open(max_rows, known))
        return answer

    @asynccontextmanager
    async def _open(self, room: Room, prompt: Prompt | None) -> AsyncIterator[tuple[ChainSession, Heads]]:
        world = self.world

        async def heads_for(_: str, __: str) -> Heads:
            return self._heads

        async with open_chain(
            self._resolver,
            self.peers,
            world.client_config,
            world.trace,
            room,
            heads_for,
            self.auditor,
            self._kept,
            prompt,
        ) as opened:
            yield opened
