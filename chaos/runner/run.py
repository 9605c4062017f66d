"""Runs a scenario: a farm, an undisturbed case to compare with, then every case, each with a client of its own."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import psutil

from chaos.attacks.horde import streaming
from chaos.farm import Farm, Member
from chaos.network.namespaces import Namespaces
from chaos.runner.attackers import Attack
from chaos.runner.conductor import Clocked, Conductor
from chaos.runner.load import Load, Questions, Request
from chaos.runner.memory import Gauge, Memory
from chaos.runner.starts import StartResult, try_start
from chaos.scenarios import Case, Scenario
from swarm.config import AskConfig, ChannelConfig, ClientConfig, NodeConfig
from swarm.engine import settle_threads
from swarm.errors import SwarmError
from swarm.identity import Identity
from swarm.node import Node
from swarm.records import Address
from swarm.trace import Trace
from swarm.transport.channels.dial import dial
from swarm.transport.tls.network import TlsNetwork
from swarm.wire.messages import FetchRecords

SETTLE_SECONDS = 60.0  # after the load, until every count is back where it was
POLL_SECONDS = 0.5
KEY_BYTES = 20  # of a directory's key
MID_STREAM_SECONDS = 1.0  # in which clients that are to vanish stream, all at once
PASSING_SECONDS = 20.0  # between two clients that pass by
SPARE_FILES = 2  # open files that a process may have more than before: the client's connection is told of last


@dataclass(frozen=True, slots=True)
class Setup:
    """How a run is made."""

    model: Path
    layers: int  # of the model
    precision: str = "bf16"
    seed: int = 0
    seconds: float | None = None  # of cases that go by the clock; None: as they say
    namespaces: bool = False  # every process on a machine of its own, instead of behind the proxy


@dataclass(slots=True)
class CaseResult:
    """What was measured of one case."""

    case: Case
    requests: list[Request]
    clocked: Clocked
    seconds: float = 0.0  # of its load
    opening: float = 0.0  # until the client was ready
    fired: bool = True  # everything that was to happen did
    settled: float | None = 0.0  # seconds until all counts were back; None: they never were
    unsettled: str = ""
    leftover_files: int = 0  # of this process
    leftover_tasks: tuple[str, ...] = ()
    memory: Memory = field(default_factory=Memory)
    attack: Attack | None = None

    @property
    def tokens_per_second(self) -> float:
        return sum(len(request.ids) for request in self.requests) / self.seconds if self.seconds else 0.0


@dataclass(slots=True)
class Outcome:
    """A scenario's results; invariants and reports are made of these."""

    scenario: Scenario
    setup: Setup
    undisturbed: CaseResult | None = None
    cases: list[CaseResult] = field(default_factory=list)
    starts: list[StartResult] = field(default_factory=list)
    computers: dict[str, str] = field(default_factory=dict)  # by member, where they differ
    resources: dict[str, tuple[tuple[int, int], tuple[int, int] | None]] = field(default_factory=dict)  # before, after
    complaints: list[str] = field(default_factory=list)  # what only a bug would say
    moves: int = 0  # of workers that roam
    waits: int = 0  # of workers that left, for a successor
    seconds: float = 0.0


class Run:
    """`outcome = await Run(scenario, setup, say).run()`. What it holds meanwhile is for whoever draws a picture."""

    def __init__(self, scenario: Scenario, setup: Setup, say: Callable[[str], None] = lambda text: None) -> None:
        self.scenario, self.setup, self._say = scenario, setup, say
        self.outcome = Outcome(scenario, setup)
        self.farm: Farm | None = None
        self.load: Load | None = None
        self.case = ""
        self.sessions: dict[str, int] = {}  # worker -> how many it said it has, last time it was asked
        self._identity = Identity.generate()
        self._files: dict[int, int] = {}  # process id -> open files before

    async def run(self) -> Outcome:
        """Raises SwarmError when the farm itself cannot be started."""
        began = time.monotonic()
        asyncio.get_running_loop().set_exception_handler(self._unhandled)
        settle_threads(1)
        scenario, setup = self.scenario, self.setup
        self._say("computing the unsplit model's answers")
        questions = Questions(setup.model, setup.precision, setup.seed, scenario.layout.numerics)
        await questions.compute()
        for start in scenario.starts:
            self._say(f"start: {start.name}")
            with tempfile.TemporaryDirectory(prefix="swarm-chaos-") as folder:
                result = await try_start(start, setup.model, setup.precision, questions, Path(folder))
            self.outcome.starts.append(result)
        if scenario.cases:
            await self._cases(questions)
        self.outcome.seconds = time.monotonic() - began
        return self.outcome

    async def _cases(self, questions: Questions) -> None:
        scenario, setup = self.scenario, self.setup
        self._say(f"starting {scenario.layout.spans * scenario.layout.replicas} workers")
        network = Namespaces(setup.seed) if setup.namespaces else None
        farm = Farm(
            scenario.layout, setup.model, setup.layers, precision=setup.precision, seed=setup.seed, network=network
        )
        async with farm:
            self.farm = farm
            self.outcome.computers = {one.name: str(one.computer) for one in farm.workers if one.computer is not None}
            dice = Random(setup.seed)
            busiest = max(case.sessions for case in scenario.cases)
            self._files = {member.pid: member.resources()[1] for member in farm.members}
            await self._case(Case("warm-up", (), busiest, busiest), questions, dice)
            calm = Case("undisturbed", (), busiest, 2 * busiest + 2)
            self.outcome.undisturbed = await self._case(calm, questions, dice)
            before = {member.name: (member.pid, member.resources()) for member in farm.members}
            self._files = {pid: files for pid, (_, files) in before.values()}
            for case in scenario.cases:
                self.outcome.cases.append(await self._case(self._lengthened(case), questions, dice))
            for member in farm.members:
                pid, old = before[member.name]
                self.outcome.resources[member.name] = old, member.resources() if member.pid == pid else None
            self.outcome.moves = farm.said(": moved from layers")
            self.outcome.waits = farm.said("stopping: nobody else holds")
            self.outcome.complaints += [line for member in farm.members for line in member.complaints()]

    def _lengthened(self, case: Case) -> Case:
        asked = self.setup.seconds
        return replace(case, seconds=asked, requests=1) if case.seconds is not None and asked is not None else case

    async def _case(self, case: Case, questions: Questions, dice: Random) -> CaseResult:
        assert self.farm is not None
        self.case = case.name
        self._say(f"case: {case.name}")
        result = CaseResult(case, [], Clocked())
        self.load = Load(questions, result.requests)
        files = self._files_of_client()
        conductor = Conductor(self.farm, case, dice, result.clocked, self._say)
        began = time.monotonic()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(conductor)
            node = await stack.enter_async_context(self._client(case, conductor))
            result.opening = time.monotonic() - began
            began = time.monotonic()
            conductor.start()
            await self._vanish(*case.vanishing)
            if case.attack is not None:
                attack = Attack(case.attack, self.setup.model, self.setup.precision, self.farm.workers)
                result.attack = await stack.enter_async_context(attack)
            if case.memory:
                await stack.enter_async_context(Gauge(lambda: self._members, result.memory))
            if case.passing:
                await stack.enter_async_context(_meanwhile(self._come_and_go(case.passing)))
            began = time.monotonic()

            def more(begun: int) -> bool:
                caught = 0 < len(result.clocked.liars) <= len(result.clocked.liars & {*result.clocked.banned})
                return goes_on(case, begun, time.monotonic() - began, conductor.turning, caught)

            await self.load.run(case, node.client, more)
            result.seconds = time.monotonic() - began
            await _until(lambda: not result.clocked.auditing, case.lingers)
            result.fired = conductor.fired
        result.leftover_tasks = _own_tasks()
        await self._settle(result)
        result.leftover_files = self._files_of_client() - files
        return result

    async def _vanish(self, *clients: int) -> None:
        """Clients of so many sessions each, killed together once all of them are in mid-stream."""
        if not clients:
            return
        assert self.farm is not None
        setup = self.setup
        self._say(f"{len(clients)} clients with {sum(clients)} sessions")
        async with AsyncExitStack() as stack:
            hordes = (streaming(setup.model, setup.precision, each, self.farm.places) for each in clients)
            for go_on in await asyncio.gather(*(stack.enter_async_context(horde) for horde in hordes)):
                go_on()
            await asyncio.sleep(MID_STREAM_SECONDS)
        self._say(f"{len(clients)} clients with {sum(clients)} sessions were killed")

    async def _come_and_go(self, sessions: int) -> None:
        while True:
            await self._vanish(sessions)
            await asyncio.sleep(PASSING_SECONDS)

    @property
    def _members(self) -> list[Member]:
        return self.farm.members if self.farm is not None else []

    @asynccontextmanager
    async def _client(self, case: Case, conductor: Conductor) -> AsyncIterator[Node]:
        assert self.farm is not None
        node = Node(
            NodeConfig(self.farm.network.host, bootstrap=self.farm.places),
            Identity.generate(),
            ask=AskConfig(self.setup.model, precision=self.setup.precision),
            client_config=ClientConfig(deadline_seconds=case.deadline, **dict(case.client)),
            trace=Trace(conductor),
        )
        async with node:
            yield node

    async def _settle(self, result: CaseResult) -> None:
        """Wait until no worker has a session and no process more open files than before."""
        assert self.farm is not None
        began = time.monotonic()
        while time.monotonic() - began < SETTLE_SECONDS:
            left = [text for member in self.farm.members if (text := await self._unsettled(member))]
            if not left:
                result.settled = time.monotonic() - began
                return
            result.unsettled = "; ".join(left)
            await asyncio.sleep(POLL_SECONDS)
        result.settled = None

    async def _unsettled(self, member: Member) -> str:
        """What a process still has; empty when it is at rest."""
        if not member.serving:
            return ""
        if member.mode == "worker":
            sessions = await self._ask_sessions(member)
            self.sessions[member.name] = sessions
            if sessions:
                return f"{member.name} has {sessions} sessions" if sessions > 0 else f"{member.name} does not answer"
        before = self._files.get(member.pid)
        files = member.resources()[1]
        if before is not None and files > before + SPARE_FILES:
            return f"{member.name} has {files} open files, {before} before"
        return ""

    async def _ask_sessions(self, member: Member) -> int:
        """-1 when it does not answer."""
        assert member.peer is not None
        address = Address.of(member.link.host, member.link.public)
        try:
            channel = await dial(TlsNetwork(self._identity), (address,), member.peer, ChannelConfig())
            try:
                await channel.request(FetchRecords(bytes(KEY_BYTES), 0))
                return channel.load.sessions if channel.load else 0
            finally:
                await channel.aclose()
        except SwarmError:
            return -1

    def _files_of_client(self) -> int:
        """Open files of this process, less those of the network and the pipes to its children."""
        assert self.farm is not None
        files: int = psutil.Process().num_fds()
        return files - self.farm.files

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.outcome.complaints.append(f"client: {context.get('message')}: {context.get('exception')!r}")


@asynccontextmanager
async def _meanwhile(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Until the block ends; an error of the work is raised then."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def goes_on(case: Case, begun: int, seconds: float, turning: bool, caught: bool = False) -> bool:
    """Whether a case wants more than the requests `begun` in so many seconds.

    `turning`: its strikes have not all come yet. `caught`: all that lied are banned.
    """
    if case.hunted and caught:
        return False
    return begun < case.requests or (turning if case.seconds is None else seconds < case.seconds)


async def _until(done: Callable[[], bool], seconds: float) -> None:
    """At most so long."""
    for _ in range(int(seconds / POLL_SECONDS)):
        if done():
            return
        await asyncio.sleep(POLL_SECONDS)


def _own_tasks() -> tuple[str, ...]:
    """Tasks that swarm left behind in this process."""
    found = []
    for task in asyncio.all_tasks():
        code = getattr(task.get_coro(), "cr_code", None)
        if code is not None and "/swarm/" in code.co_filename and not task.done():
            found.append(f"{task.get_name()} ({code.co_qualname})")
    return tuple(sorted(found))
