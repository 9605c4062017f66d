"""What is done to a swarm, as data: faults, whom they strike, when, and what must hold. Knows nothing of how it is run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from chaos.farm import Layout
from chaos.faults import (
    Bandwidth,
    Cut,
    Delay,
    Fault,
    Flip,
    HalfOpen,
    Kill,
    LoseReply,
    Loss,
    Pause,
    Reset,
    Slice,
    Slow,
    Stop,
)

PROMPT_ROWS = 150  # two chunks of the grid
TOKENS = 24
MID_PROMPT, FIRST, MIDDLE, LAST = 128, PROMPT_ROWS, PROMPT_ROWS + TOKENS // 2, PROMPT_ROWS + TOKENS - 2
MOMENTS = {"mid-prompt": MID_PROMPT, "decode 1": FIRST, "middle": MIDDLE, "last": LAST}  # position of a step

Who = Literal["hop", "chain", "replicas", "bootstraps", "workers", "redundant", "each"]
When = Literal["row", "replay", "before", "every", "in turn"]


@dataclass(frozen=True, slots=True)
class Target:
    """Whom a fault strikes."""

    who: Who
    # hop: the worker that serves the part `index` in the session; chain: every worker of it; replicas: every worker that holds
    # the part `index`; bootstraps; workers: all of them; redundant: one drawn from those that are not the last replica of
    # their layers; each: the workers one after another
    index: int = 0
    count: int | None = None  # only so many of them


@dataclass(frozen=True, slots=True)
class Moment:
    """When it does."""

    when: When
    # row: as the step at position `row` leaves for the part `of`; replay: at the same step of a replay; before: before the
    # client starts; every: each `seconds`; in turn: the next as soon as the one before is undone, with a pause of `seconds`
    row: int = 0
    of: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Strike:
    """A fault, its target and its schedule."""

    fault: Fault
    target: Target
    at: Moment
    lasts: float | None = None  # seconds until it is undone; None: until the case ends
    until_noticed: bool = False  # undone as soon as a session leaves the target
    back: int | None = None  # how many of the targets come back by then; None: all


@dataclass(frozen=True, slots=True)
class Case:
    """Requests, and what happens to the swarm meanwhile."""

    name: str
    strikes: tuple[Strike, ...]
    sessions: int = 1  # requests at a time
    requests: int = 1  # in all, if the strikes do not ask for more
    seconds: float | None = None  # send requests for so long instead; the command line may say otherwise
    deadline: float = 60.0  # the client's, in seconds without progress
    failing: int | None = None  # every request ends with an error that names the layers of this part
    vanishing: tuple[
        int, ...
    ] = ()  # before the requests: clients of so many sessions each, killed in mid-stream at once
    first_token: float | None = None  # seconds from the start of the client to its first token, at most


@dataclass(frozen=True, slots=True)
class Limits:
    """What must hold, beyond the invariants that always do."""

    crash_noticed: float = 1.0  # seconds, p95
    stall_noticed: float = 5.0
    success: float = 1.0  # part of the requests
    suspects: bool = True  # whether anyone may be suspected at all
    recoveries: int | None = None  # sessions that have to find a replacement: at least so many; 0: none may
    resumed: float | None = None  # seconds from a return to the next token


LAYOUT, LIMITS = Layout(), Limits()


@dataclass(frozen=True, slots=True)
class Scenario:
    """`number` is that of the list in the design of the harness."""

    number: int
    name: str
    title: str
    cases: tuple[Case, ...]
    layout: Layout = LAYOUT
    limits: Limits = LIMITS


def _hop(index: int) -> Target:
    return Target("hop", index)


def _row(row: int, of: int = 0) -> Moment:
    return Moment("row", row, of)


def _link(name: str, *faults: Fault, sessions: int = 2, requests: int = 4) -> Case:
    """Every worker's link has these faults from the beginning to the end."""
    before = Moment("before")
    return Case(name, tuple(Strike(fault, Target("workers"), before) for fault in faults), sessions, requests)


def _struck(name: str, fault: Fault, row: int = MIDDLE, hop: int = 1, lasts: float | None = None) -> Case:
    return Case(name, (Strike(fault, _hop(hop), _row(row, hop), lasts),))


SCENARIOS = (
    Scenario(
        1,
        "kill",
        "SIGKILL at every hop, at every kind of moment",
        tuple(_struck(f"hop {hop}, {name}", Kill(), row, hop) for hop in range(3) for name, row in MOMENTS.items()),
        limits=Limits(recoveries=12),
    ),
    Scenario(
        2,
        "kill-two",
        "the replacement killed during its replay; two workers at once",
        (
            Case(
                "the replacement too",
                (
                    Strike(Kill(), _hop(1), _row(MIDDLE, 1)),
                    Strike(Kill(), _hop(1), Moment("replay", MID_PROMPT, 1)),
                ),
            ),
            Case("two at once", (Strike(Kill(), Target("chain", count=2), _row(MIDDLE)),)),
            Case("the whole chain", (Strike(Kill(), Target("chain"), _row(MIDDLE)),)),
        ),
        Layout(replicas=3),
        Limits(recoveries=5),
    ),
    Scenario(
        3,
        "stall",
        "SIGSTOP, and SIGCONT later: late replies are dropped",
        (
            *(
                Case(
                    f"hop {hop}, SIGCONT as soon as it is noticed",
                    (Strike(Pause(), _hop(hop), _row(MIDDLE, hop), until_noticed=True),),
                )
                for hop in range(3)
            ),
            Case("mid-prompt", (Strike(Pause(), _hop(1), _row(MID_PROMPT, 1), until_noticed=True),)),
            _struck("half open: a machine without power", HalfOpen()),
        ),
        limits=Limits(recoveries=5),
    ),
    Scenario(
        4,
        "slow-worker",
        "one worker ten times slower: no token lost, nobody banned",
        (Case("ten times", (Strike(Slow(10.0), _hop(1), _row(FIRST, 1)),), requests=3),),
    ),
    Scenario(
        5,
        "slow-link",
        "200±100 ms round trips, 5 % of UDP lost, 1 Mbit/s: it completes, and nobody is suspected",
        (_link("everything together", Delay(0.2, 0.1), Loss(0.05), Bandwidth()),),
        limits=Limits(suspects=False, recoveries=0),
    ),
    Scenario(
        6,
        "partition",
        "a worker cut off, one way or both; the directory cut off: survivors serve, and what heals is used again",
        (
            *(
                Case(
                    f"a worker {fault.name}",
                    (Strike(fault, _hop(1), _row(MIDDLE, 1), lasts=8.0),),
                    requests=3,
                )
                for fault in (Cut(), Cut(("to",)), Cut(("back",)))
            ),
            Case("every bootstrap cut off", (Strike(Cut(), Target("bootstraps"), _row(MIDDLE)),), requests=3),
            Case(
                "both replicas cut off for 8 s",
                (Strike(Cut(), Target("replicas", 1), _row(MIDDLE, 1), lasts=8.0),),
            ),
        ),
        limits=Limits(resumed=5.0),
    ),
    Scenario(
        7,
        "damage",
        "bit flips, truncation, resets and slices: never a wrong token",
        (
            _link("a wrong bit in 50 kB", Flip(2e-5), requests=6),
            _struck("flips at one hop", Flip(1e-3), lasts=1.0),
            _struck("reset", Reset()),
            _struck("reset mid-prompt", Reset(), MID_PROMPT),
            *(_struck(f"a reply cut after {size} bytes", LoseReply(size), FIRST) for size in (1, 5, 100)),
            _link("pieces of 37 bytes", Slice(37), requests=2),
        ),
    ),
    Scenario(
        9,
        "no-bootstrap",
        "every bootstrap dead; a cold start with one of two dead",
        (
            Case("both die", (Strike(Kill(), Target("bootstraps"), _row(MIDDLE)),), requests=4),
            Case(
                "cold start, one of two dead",
                (Strike(Kill(), Target("bootstraps", count=1), Moment("before")),),
                requests=2,
                first_token=10.0,
            ),
        ),
        Layout(bootstraps=2),
    ),
    Scenario(
        10,
        "gone",
        "all replicas of a part dead: one back after 20 s, or none before the deadline",
        (
            Case(
                "one back after 20 s",
                (Strike(Kill(), Target("replicas", 1), _row(MIDDLE, 1), lasts=20.0, back=1),),
                sessions=2,
                requests=2,
            ),
            Case(
                "none comes back",
                (Strike(Kill(), Target("replicas", 1), _row(MIDDLE, 1)),),
                deadline=4.0,
                failing=1,
            ),
        ),
        limits=Limits(resumed=5.0),
    ),
    Scenario(
        17,
        "churn",
        "one of six workers killed and started again every 5 s, never the last replica of its layers",
        (
            Case(
                "churn", (Strike(Kill(), Target("redundant"), Moment("every", seconds=5.0)),), sessions=4, seconds=300.0
            ),
        ),
        limits=Limits(success=0.999),
    ),
    Scenario(
        18,
        "crowd",
        "a hundred sessions at once under churn",
        (
            Case(
                "churn",
                (Strike(Kill(), Target("redundant"), Moment("every", seconds=5.0)),),
                sessions=100,
                seconds=60.0,
            ),
        ),
        limits=Limits(success=0.999),
    ),
    Scenario(
        19,
        "vanish",
        "clients with hundreds of sessions vanish in mid-stream: workers are at rest again",
        (Case("three clients of a hundred sessions", (), requests=2, vanishing=(100, 100, 100)),),
    ),
    Scenario(
        20,
        "rolling-restart",
        "every worker told to stop by SIGTERM and started again, one after another: not one failed request",
        (Case("in turn", (Strike(Stop(), Target("each"), Moment("in turn", seconds=0.5)),), sessions=2),),
    ),
    Scenario(
        21,
        "lost-reply",
        "a reply lost after the step was applied: the step is not applied again",
        tuple(_struck(f"hop {hop}", LoseReply(), row, hop) for hop, row in enumerate((MID_PROMPT, FIRST, MIDDLE))),
        Layout(replicas=1),
        Limits(recoveries=0),
    ),
)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


def find(name: str) -> Scenario | None:
    """By its name or its number."""
    return BY_NAME.get(name) or next((each for each in SCENARIOS if str(each.number) == name), None)
