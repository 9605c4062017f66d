"""What is done to a swarm, as data: faults, whom they strike, when, and what must hold. Knows nothing of how it is run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from chaos.farm import Layout as Layout
from chaos.faults import Fault

PROMPT_ROWS = 150  # two chunks of the grid
TOKENS = 24
MID_PROMPT, FIRST, MIDDLE, LAST = 128, PROMPT_ROWS, PROMPT_ROWS + TOKENS // 2, PROMPT_ROWS + TOKENS - 2
APART_SECONDS = 8.0
MOMENTS = {"mid-prompt": MID_PROMPT, "decode 1": FIRST, "middle": MIDDLE, "last": LAST}  # position of a step

Who = Literal["hop", "chain", "replicas", "bootstraps", "workers", "redundant", "serving", "each", "held", "roaming"]
When = Literal["row", "replay", "before", "every", "in turn"]


@dataclass(frozen=True, slots=True)
class Target:
    """Whom a fault strikes."""

    who: Who
    # hop: the worker that serves the part `index` in the session; chain: every worker of it; replicas: every worker that holds
    # the part `index`; bootstraps; workers: all of them; redundant: one drawn from those that are not the last replica of
    # their layers; serving: one drawn from all that serve; each: the workers one after another; held: those whose layers are
    # given; roaming: of those that choose their layers the one whose turn it is
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
    requests: int = 1  # in all, if neither the strikes nor the clock ask for more
    hunted: bool = False  # no more of them once every liar is banned: an audit looks at one part of a chain
    seconds: float | None = None  # send requests for at least so long; the command line may say for how long instead
    deadline: float = 60.0  # the client's, in seconds without progress
    failing: int | None = None  # every request ends with an error that names the layers of this part
    vanishing: tuple[
        int, ...
    ] = ()  # first, clients of so many sessions each: killed together, when all are in mid-stream
    passing: int = 0  # meanwhile, clients of so many sessions, one after another, each killed in mid-stream
    memory: bool = False  # what every process holds may not grow
    storm: tuple[Fault, ...] = ()  # these, drawn at random, at any member whose part has another that is well
    first_token: float | None = None  # seconds from the start of the client to its first token, at most
    attack: str | None = None  # of chaos.attacks.attack: under way from before the requests to their end
    client: tuple[tuple[str, Any], ...] = ()  # fields of the client's ClientConfig: how it audits, and whom
    lingers: float = 0.0  # seconds, at most, for which the client stays after the load until its audits are over

    @property
    def lying(self) -> bool:
        """Whether wrong tokens may come out: who lies is to be detected instead."""
        return any(strike.fault.kind == "lie" for strike in self.strikes)


@dataclass(frozen=True, slots=True)
class Limits:
    """What must hold, beyond the invariants that always do."""

    crash_noticed: float = 1.0  # seconds, p95
    stall_noticed: float = 5.0
    success: float = 1.0  # part of the requests
    suspects: bool = True  # whether anyone may be suspected at all
    recoveries: int | None = None  # sessions that have to find a replacement: at least so many; 0: none may
    resumed: float | None = None  # seconds from a return to the next token
    grown: int | None = None  # bytes by which a worker may grow under attack
    gap_share: float | None = None  # p95 of the gaps under attack, of that while the attackers hold still
    slow_steps: int | None = None  # of a worker that is slowed, before a session begins to leave it: at most so many
    caught: int | None = None  # liars that have to be banned: at least so many
    moves: int | None = None  # workers that have to move to other layers: at least so many times
    waits: int | None = None  # workers that have to wait for a successor before they leave, likewise


@dataclass(frozen=True, slots=True)
class Start:
    """A worker of all layers, started on a disk of its own."""

    name: str
    disk: Literal["sound", "read-only", "full"] = "sound"
    key: bool = True  # its key is there already
    flipped: bool = False  # one bit of a tensor is wrong since its manifest was made
    serves: bool = True  # else it refuses, and names the tensor or the key file


LAYOUT, LIMITS = Layout(), Limits()
BOTH = ("bf16", "fp32")  # every precision that there is


@dataclass(frozen=True, slots=True)
class Scenario:
    """`number` is that of the list in the design of the harness."""

    number: int
    name: str
    title: str
    cases: tuple[Case, ...]
    layout: Layout = LAYOUT
    limits: Limits = LIMITS
    starts: tuple[Start, ...] = ()
    precisions: tuple[str, ...] = ("bf16",)  # at which it is run, unless the command line says otherwise


def hop(index: int) -> Target:
    """The worker that serves this part in the session."""
    return Target("hop", index)


def row(position: int, of: int = 0) -> Moment:
    """As the step at this position leaves for this part."""
    return Moment("row", position, of)


def link(name: str, *faults: Fault, sessions: int = 2, requests: int = 4) -> Case:
    """Every worker's link has these faults from the beginning to the end."""
    before = Moment("before")
    return Case(name, tuple(Strike(fault, Target("workers"), before) for fault in faults), sessions, requests)


def struck(name: str, fault: Fault, position: int = MIDDLE, part: int = 1, lasts: float | None = None) -> Case:
    """One request, one fault at one worker of its chain."""
    return Case(name, (Strike(fault, hop(part), row(position, part), lasts),))


def everywhere(fault: Fault) -> tuple[Case, ...]:
    """At every hop, at every kind of moment."""
    return tuple(
        struck(f"hop {part}, {name}", fault, position, part) for part in range(3) for name, position in MOMENTS.items()
    )


def cut_off(name: str, *faults: Fault) -> tuple[Case, ...]:
    """Each of these at one worker, in the middle of an answer, until it heals; then there are more requests."""
    return tuple(
        Case(f"{name}{fault.name}", (Strike(fault, hop(1), row(MIDDLE, 1), lasts=APART_SECONDS),), requests=3)
        for fault in faults
    )
