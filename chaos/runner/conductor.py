"""Strikes when the schedule says so, and clocks how soon sessions notice and recover. Listens to the client's trace."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from chaos.farm import Farm, Member
from chaos.faults import Kind, Slow
from chaos.runner.laggards import Laggards
from chaos.scenarios import Case, Moment, Strike, Target
from swarm.trace import Event

STORM_PAUSE = (0.5, 4.0)  # seconds between two faults of a storm
STORM_LASTS = (0.5, 15.0)  # and how long each is in force
STRUCK, AT_RANDOM = Target("serving"), Moment("every")


@dataclass(slots=True)
class Clocked:
    """What was measured of strikes. Seconds are counted from the strike."""

    noticed: dict[Kind, list[float]] = field(default_factory=lambda: {"crash": [], "stall": []})
    recovered: dict[Kind, list[float]] = field(default_factory=lambda: {"crash": [], "stall": []})
    refilled: list[float] = field(
        default_factory=list
    )  # recoveries that waited for layers nobody held, from their return
    failovers: int = 0
    strikes: int = 0
    suspected: list[tuple[str, float]] = field(default_factory=list)  # member, for how many seconds
    returns: list[float] = field(default_factory=list)  # monotonic times at which a member came back in mid-case
    signs: list[float] = field(default_factory=list)  # monotonic times at which a client said what it waits for
    audits: Counter[str] = field(default_factory=Counter)  # by verdict
    auditing: int = 0  # under way
    laggards: Laggards = field(default_factory=Laggards)
    banned: list[str] = field(default_factory=list)  # members
    liars: set[str] = field(default_factory=set)  # members that lied


@dataclass(slots=True)
class _Armed:
    strike: Strike
    fired: bool = False


class Conductor:
    """One case's strikes. `async with Conductor(...) as conductor`: leaving undoes whatever is in force."""

    def __init__(self, farm: Farm, case: Case, random: Random, clocked: Clocked, say: Callable[[str], None]) -> None:
        self._farm, self._case, self._random, self._say = farm, case, random, say
        self.clocked = clocked
        self._armed = [_Armed(strike) for strike in case.strikes]
        self._chain: dict[int, Member] = {}  # part -> who serves it in the session
        self._replaying = False
        self._struck: dict[str, tuple[float, Kind]] = {}  # peer -> when, and what
        self._leaving: dict[str, tuple[float, Kind]] = {}  # of those that sessions left, also once it is undone
        self._in_force: list[tuple[Strike, Member]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._undoing: set[asyncio.Task[None]] = set()
        self._turns: set[asyncio.Task[None]] = set()
        self._turn = 0  # of those that roam
        self._filled_at = 0.0  # of the monotonic clock, when a part last came back that nobody had served

    async def __aenter__(self) -> Conductor:
        for armed in self._armed:
            if armed.strike.at.when == "before":
                self._fire(armed)
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks | self._turns:
            task.cancel()
        results = await asyncio.gather(*self._tasks, *self._turns, return_exceptions=True)
        await asyncio.gather(*self._undoing)
        await self.heal()
        for member in self._farm.members:
            member.faults.clear()
        for result in results:
            if isinstance(result, Exception):
                raise result

    @property
    def fired(self) -> bool:
        """Whether everything that was to happen once did."""
        return all(armed.fired for armed in self._armed)

    @property
    def turning(self) -> bool:
        """Whether strikes that take turns still do."""
        return any(not task.done() for task in self._turns)

    def start(self) -> None:
        """What goes by the clock begins."""
        for armed in self._armed:
            if armed.strike.at.when == "every":
                self._tasks.add(asyncio.create_task(self._every(armed)))
            elif armed.strike.at.when == "in turn":
                self._turns.add(asyncio.create_task(self._in_turn(armed)))
        if self._case.storm:
            self._spawn(self._storm())

    async def heal(self) -> None:
        """Undo everything."""
        if self._in_force:
            self._say("healing")
        while self._in_force:
            strike, member = self._in_force[0]
            await self._undo(strike, member)

    def __call__(self, event: Event) -> None:
        """A trace listener."""
        peer = event.details.get("peer", "")
        now = time.monotonic()
        self.clocked.laggards(event, now)
        match event.name, event.phase:
            case "hop.forward", "started":
                self._forward(peer, event.details["position"])
            case "session.failover", "started":
                self._replaying = True
                self.clocked.failovers += 1
                self.clocked.signs.append(now)
                self._noticed(peer, now)
            case "session.failover", "complete":
                self._replaying = False
                if peer in self._leaving:
                    at, kind = self._leaving[peer]
                    if at >= self._filled_at:
                        self.clocked.recovered[kind].append(now - at)
                    else:
                        self.clocked.refilled.append(now - self._filled_at)
                self._say(f"left {peer}: {event.details['rows']} rows replayed in {event.details['seconds']:.2f} s")
            case "session.move", "complete":
                self._say(
                    f"moved from {peer}: {event.details['rows']} rows replayed in {event.details['seconds']:.2f} s"
                )
            case "session.wait", "failed":
                self.clocked.signs.append(now)
            case "peers.suspect", "complete":
                self.clocked.suspected.append((self._name(peer), event.details["seconds"]))
            case "peers.ban", "complete":
                self.clocked.banned.append(self._name(peer))
                self._say(f"banned: {self._name(peer)}")
            case "audit", "started":
                self.clocked.auditing += 1
            case "audit", "complete" | "failed":
                self.clocked.auditing -= 1
                self.clocked.audits[event.details.get("verdict", "failed")] += 1

    def _name(self, peer: str) -> str:
        member = self._farm.find(peer)
        return member.name if member else peer

    def _forward(self, peer: str, position: int) -> None:
        member = self._farm.find(peer)
        if member is None:
            return
        if not self._replaying:
            self._chain[member.span] = member
        for armed in self._armed:
            at = armed.strike.at
            wanted = (at.when == "row" and not self._replaying) or (at.when == "replay" and self._replaying)
            if wanted and not armed.fired and position >= at.row and member.span == at.of:
                self._chain[member.span] = member
                self._fire(armed)

    def _noticed(self, peer: str, now: float) -> None:
        if peer not in self._struck:
            return
        at, kind = self._leaving[peer] = self._struck[peer]
        if at >= self._filled_at:  # else the session stood before another part, and could not notice
            self.clocked.noticed[kind].append(now - at)
        for strike, member in self._in_force:
            if strike.until_noticed and member.short == peer:
                self._spawn(self._undo(strike, member))

    def _fire(self, armed: _Armed) -> None:
        armed.fired = True
        strike = armed.strike
        members = self._members(strike)
        self._apply_all(strike, members)
        if strike.lasts is not None:
            self._spawn(self._end(strike, members))

    def _members(self, strike: Strike) -> list[Member]:
        target, farm = strike.target, self._farm
        match target.who:
            case "hop":
                found = [self._chain[target.index]]
            case "chain":
                found = [member for _, member in sorted(self._chain.items())]
            case "replicas":
                found = farm.of(target.index)
            case "bootstraps":
                found = farm.bootstraps
            case "redundant":
                spare = [one for one in farm.workers if sum(other.serving for other in farm.of(one.span)) > 1]
                found = [self._random.choice([one for one in spare if one.serving])]
            case "serving":
                found = (
                    [self._random.choice(serving)] if (serving := [one for one in farm.workers if one.serving]) else []
                )
            case "held":
                found = [one for one in farm.workers if not one.roams]
            case "roaming":
                roaming = [one for one in farm.workers if one.roams]
                found = [roaming[self._turn % len(roaming)]]
                self._turn += 1
            case "workers" | "each":
                found = farm.workers
        return found[: target.count]

    def _apply_all(self, strike: Strike, members: list[Member]) -> None:
        for member in members:
            self._apply(strike, member)
        self._say(f"{', '.join(member.name for member in members)}: {strike.fault.name}")

    def _apply(self, strike: Strike, member: Member) -> None:
        strike.fault.apply(member)
        self.clocked.strikes += 1
        if strike.fault.kind == "lie":
            self.clocked.liars.add(member.name)
        elif isinstance(strike.fault, Slow):
            self.clocked.laggards.struck(member.short)
        elif strike.fault.kind != "link":  # which nobody has to notice, and which may be in force for long
            self._struck[member.short] = (time.monotonic(), strike.fault.kind)
        self._in_force.append((strike, member))
        member.faults.append(strike.fault.name)

    async def _undo(self, strike: Strike, member: Member) -> None:
        """Harmless if it is undone already, or about to be."""
        if (strike, member) not in self._in_force:
            return
        self._in_force.remove((strike, member))
        undoing = asyncio.create_task(strike.fault.undo(member))
        self._undoing.add(undoing)
        await asyncio.shield(undoing)  # a process that is being started is not left half started
        self._undoing.discard(undoing)
        self._struck.pop(member.short, None)
        member.faults.remove(strike.fault.name)

    async def _end(self, strike: Strike, members: list[Member]) -> None:
        assert strike.lasts is not None
        await asyncio.sleep(strike.lasts)
        for member in members[: strike.back]:
            missing = self._missing()
            await self._undo(strike, member)
            self._say(f"{member.name} is back")
            if missing - self._missing():
                self._filled_at = time.monotonic()
            if missing and not self._missing():
                self.clocked.returns.append(self._filled_at)

    def _missing(self) -> set[int]:
        """Parts that have no worker but those that something keeps from serving."""
        away = {member.name for strike, member in self._in_force if strike.fault.kind in ("crash", "stall")}
        return {
            part
            for part in range(self._farm.layout.spans)
            if not any(one.serving and one.name not in away for one in self._farm.of(part))
        }

    async def _every(self, armed: _Armed) -> None:
        """One target at a time, back before the next is struck, unless the strike says for how long."""
        armed.fired = True
        period = armed.strike.at.seconds
        while True:
            began = time.monotonic()
            for member in self._members(armed.strike):
                self._apply_all(armed.strike, [member])
                if armed.strike.lasts is None:
                    await self._undo(armed.strike, member)
                else:
                    self._spawn(self._end(armed.strike, [member]))
            await asyncio.sleep(max(0.0, period - (time.monotonic() - began)))

    async def _in_turn(self, armed: _Armed) -> None:
        armed.fired = True
        for member in self._members(armed.strike):
            self._apply_all(armed.strike, [member])
            await self._undo(armed.strike, member)
            await asyncio.sleep(armed.strike.at.seconds)

    async def _storm(self) -> None:
        """One fault at a time for each part of the layers, and for the bootstraps."""
        dice = self._random
        while True:
            await asyncio.sleep(dice.uniform(*STORM_PAUSE))
            struck = {(member.mode, member.span) for member in self._farm.members if member.faults}
            calm = [one for one in self._farm.members if (one.mode, one.span) not in struck and one.serving]
            if calm:
                strike = Strike(dice.choice(self._case.storm), STRUCK, AT_RANDOM, dice.uniform(*STORM_LASTS))
                member = dice.choice(calm)
                self._apply_all(strike, [member])
                self._spawn(self._end(strike, [member]))

    def _spawn(self, work: object) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)  # type: ignore[arg-type]
        self._tasks.add(task)
