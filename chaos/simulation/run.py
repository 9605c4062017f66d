"""One seed: a topology, a schedule of faults and some requests are drawn from it; chaos, then healing, then everything must
be as if nothing had been.

`simulate(seed)` gives the outcome, `replay(seed)` shows what happened. What is required is in docs/DESIGN.md, "Promises".
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from random import Random
from typing import Any

from chaos.simulation.clock import run_virtual
from chaos.simulation.faults import Lies, Planned, Slow, aimed, draw_faults, draw_topology, spared
from chaos.simulation.model import Prepared, prepared
from chaos.simulation.outcome import Outcome, Request
from chaos.simulation.peers import Asker
from chaos.simulation.seeding import seeded
from chaos.simulation.surroundings import Topology
from chaos.simulation.world import World
from swarm.client.session import ChainSession
from swarm.errors import AuditFault, DeadlineExceeded, NoChain, Overloaded, SwarmError

MOST_REQUESTS = 6  # during the chaos
REQUEST_WINDOW = 5.0  # seconds in which they begin
HEAL_SECONDS = 30.0  # after the last fault, until everybody has found everybody again
SETTLE_SECONDS = 60.0  # after the last request, until nothing of the sessions is left
GUARDED_GAP_SECONDS = 15.0  # without a token, where a chain is there and nobody computes slowly
HANG_SECONDS = 600.0  # virtual, after which something never ends
AUDIT_SHARES = (0.0, 0.3, 1.0)  # of sessions, where nobody lies; else all of them
SESSION_TASKS = ("renewals", "closing", "step", "heads", "audit", "move")  # names of tasks that end with the sessions
EXPECTED = (NoChain, DeadlineExceeded, Overloaded)  # how a request may fail while something is broken


@contextmanager
def _own_garbage() -> Iterator[None]:
    """When garbage is collected does not depend on what ran before, and only what was made within is looked at."""
    collecting = gc.isenabled()
    gc.disable()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        if collecting:
            gc.enable()


def simulate(seed: int) -> Outcome:
    """Run one seed. The same seed gives the same outcome and the same events."""
    made = prepared()
    return _Run(seed, made).outcome()


def replay(seed: int, verbose: bool = True) -> Outcome:
    """Run one seed and print what happened: with `verbose` every event."""
    outcome = simulate(seed)
    if verbose:
        sys.stdout.write("\n".join(outcome.events) + "\n")
    sys.stdout.write(f"{outcome}\n")
    return outcome


class _Run:
    """One run of one seed."""

    def __init__(self, seed: int, made: Prepared) -> None:
        self.seed = seed
        self.prepared = made
        self.violations: list[str] = []
        self.faults: list[Planned] = []
        self.struck: list[str] = []  # those that came to pass, in words
        self.requests: list[Request] = []
        self.lied = 0
        self.world: World

    def outcome(self) -> Outcome:
        with _own_garbage(), seeded(self.seed):
            run_virtual(self._main(), debug=False)
        recoveries = [seconds for request in self.requests for seconds in request.recoveries]
        return Outcome(
            seed=self.seed,
            ok=not self.violations,
            faults=self.struck,
            tokens=sum(len(request.tokens) for request in self.requests),
            recoveries=len(recoveries),
            failover_seconds=recoveries,
            violations=self.violations,
            requests=list(map(str, self.requests)),
            failed=sum(request.error is not None for request in self.requests),
            audits=sum(" verdict=" in text for text in self.world.events),
            lied=self.lied,
            banned=len(self.world.banned),
            events=self.world.events,
        )

    async def _main(self) -> None:
        asyncio.get_running_loop().set_exception_handler(self._unhandled)
        random = Random(f"{self.seed} run")
        topology, self.guarded = draw_topology(random)
        self.spared = spared(topology, self.guarded)
        self.faults = draw_faults(random, topology, self.guarded)
        self.requests = [self._draw_request(random, topology) for _ in range(random.randint(1, MOST_REQUESTS))]
        lying = any(isinstance(each.fault, Lies) for each in self.faults)
        topology = replace(topology, audit_share=1.0 if lying else random.choice(AUDIT_SHARES))
        self.world = World(self.seed, topology, self.prepared)
        try:
            async with asyncio.timeout(HANG_SECONDS):
                await self._live()
        except TimeoutError:
            self._violated(f"I2: not at its end after {HANG_SECONDS:.0f} virtual seconds")
        except Exception as error:  # whatever it is, it belongs to this seed
            self._violated(f"I7: {type(error).__name__}: {error}")
        await self._check_end()

    async def _live(self) -> None:
        async with self.world:
            await self._chaos()
            await self._heal()
            for request in self._draw_healed():
                self.requests.append(request)
                await self._ask(request)
            await self._check_leftovers()

    async def _chaos(self) -> None:
        faults = [self.world.spawn(self._befall(each)) for each in self.faults]
        await asyncio.gather(*(self._ask(request) for request in self.requests))
        self.world.no_more_steps()
        await asyncio.gather(*faults)

    async def _befall(self, each: Planned) -> None:
        world, fault = self.world, each.fault
        if each.step is not None:
            try:
                await world.step(each.step)
            except asyncio.CancelledError:  # there were fewer
                return
            if world.asked in self.spared:
                return
            fault = aimed(fault, world.asked)
        await asyncio.sleep(each.at)
        self.struck.append(f"at {world.time:.3f} s for {each.seconds:.3f} s: {fault!r}")
        world.note(f"apply {fault!r}")
        fault.apply(world)
        await asyncio.sleep(each.seconds)
        world.note(f"undo {fault!r}")
        fault.undo(world)

    async def _heal(self) -> None:
        await self.world.settled()
        self.world.note("healed")
        await asyncio.sleep(HEAL_SECONDS)
        for peer in self.world.peers.values():
            if not peer.alive:
                self._violated(f"{peer.name} did not come back")
        for asker in self.world.askers:
            await asker.auditor.idle()
            for peer_id in asker.bans.banned():  # who lied has mended its ways, and its layers may be needed
                asker.bans.clear(peer_id)

    async def _ask(self, request: Request) -> None:
        """One request, held to I1, I2 and I3."""
        asker = self.world.peers[request.client]
        assert isinstance(asker, Asker)
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        if not request.healed:
            await asyncio.sleep(request.at)
        await asker.ready.wait()
        began = last = loop.time()
        answer = asker.answer(request.ask)
        asker.callers[task] = None
        try:
            async for token in answer:
                request.longest_gap = max(request.longest_gap, loop.time() - last)
                last = loop.time()
                self.world.note(f"{request.client} token {token.index} {token.id}")
                if token.index != len(request.tokens):
                    self._violated(f"I3: token {len(request.tokens)} of {request} came as number {token.index}")
                request.tokens.append(token.id)
                if len(request.tokens) == request.leave_after:
                    break
        except SwarmError as error:
            request.error = error
        except asyncio.CancelledError:  # the process died, and the caller with it
            if asker.ready.is_set():
                raise
            task.uncancel()
            request.leave_after = len(request.tokens)
        finally:
            del asker.callers[task]
            await answer.aclose()
        request.longest_gap = max(request.longest_gap, loop.time() - last)
        request.seconds = loop.time() - began
        if isinstance(answer.session, ChainSession):
            request.recoveries = [recovery.seconds for recovery in answer.session.recoveries]
            if not answer.session.exact:
                self._violated(f"I1: not exact: {request}")
        self._judge(request)

    def _judge(self, request: Request) -> None:
        expected = self.prepared.expected(request.ask)
        misled = bool(self.world.liars) and not request.healed
        if request.tokens != expected[: len(request.tokens)] and misled:
            self.lied += 1  # whether that is found, the audits tell
        elif request.tokens != expected[: len(request.tokens)]:
            self._violated(f"I1: {request.tokens} instead of {expected}: {request}")
        wanted = len(expected) if request.leave_after is None else request.leave_after
        if request.error is None and len(request.tokens) != wanted:
            self._violated(f"I3: {len(request.tokens)} tokens instead of {wanted}: {request}")
        if isinstance(request.error, AuditFault) and misled:
            return
        if request.error is not None and not isinstance(request.error, EXPECTED):
            self._violated(f"I2: no way for a request to fail: {request}")
        elif request.error is not None and (request.healed or self.guarded):
            self._violated(f"I2: failed though a chain was there: {request}")
        slowed = any(isinstance(each.fault, Slow) for each in self.faults)
        if self.guarded and not slowed and request.longest_gap > GUARDED_GAP_SECONDS:
            self._violated(f"I2: no token for {request.longest_gap:.1f} s though a chain was there: {request}")
        # a replay that gets further than before may go on, and each chunk or batch of rows is one step further
        config = self.world.client_config
        steps = 2 + (len(request.ask.prompt) + request.ask.tokens) // config.replay_rows
        if request.longest_gap > config.open_seconds + steps * config.deadline_seconds:
            self._violated(f"I2: no token for {request.longest_gap:.1f} s: {request}")

    async def _check_leftovers(self) -> None:
        """I4: soon after the last request nothing of the sessions is left anywhere."""
        for _ in range(int(SETTLE_SECONDS)):
            if not (left := self._leftovers()):
                break
            await asyncio.sleep(1.0)
        else:
            self._violated(f"I4: left behind: {'; '.join(left)}")
        suspected = {
            name: sorted(p.short for p in asker.peers.avoided(strictly=True)) for name, asker in self._askers()
        }
        for name, peers in suspected.items():
            if peers:
                self._violated(f"I6: {name} still suspects {', '.join(peers)}")

        for name in self.world.banned:
            if name not in self.world.liars:
                self._violated(f"I6: {name} was banned and never lied")

    def _askers(self) -> list[tuple[str, Asker]]:
        return [(asker.name, asker) for asker in self.world.askers]

    def _leftovers(self) -> list[str]:
        found = [f"{worker.name}: {text}" for worker in self.world.workers if (text := worker.leftovers())]
        names = sorted(task.get_name() for task in asyncio.all_tasks())
        return found + [f"task {name}" for name in names if name.startswith(SESSION_TASKS)]

    async def _check_end(self) -> None:
        """I4 and I7, once every process was stopped in order."""
        await asyncio.sleep(1)
        left = sorted(repr(task) for task in asyncio.all_tasks() - {asyncio.current_task()})
        if left:
            self._violated(f"I7: tasks left at the end: {left}")
        if self.world.switch.sockets or self.world.hub.pipes:
            self._violated(f"I4: left at the end: {self.world.switch.sockets}, {self.world.hub.pipes}")
        for text in self.world.events:
            if "channel.serve failed" in text or "directory.datagram failed" in text:
                self._violated(f"I7: {text}")
        gc.collect()  # a task whose error nobody saw tells so when it goes
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)

    def _draw_request(self, random: Random, topology: Topology) -> Request:
        index = random.randrange(len(topology.clients))
        ask = self.prepared.ask(random, topology.clients[index])
        leave = random.randint(1, ask.tokens) if random.random() < 0.2 else None
        return Request(f"c{index}", ask, random.uniform(0.0, REQUEST_WINDOW), leave)

    def _draw_healed(self) -> list[Request]:
        random = Random(f"{self.seed} healed")
        return [
            Request(asker.name, self.prepared.ask(random, asker.precision), self.world.time, None, healed=True)
            for asker in self.world.askers
        ]

    def _violated(self, text: str) -> None:
        self.violations.append(text)

    def _unhandled(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._violated(f"I7: {context.get('message')}: {context.get('exception')!r}")
