"""Long runs: memory under a load that stays, and every fault there is at random."""

from __future__ import annotations

from chaos.farm import Layout
from chaos.faults import (
    Bandwidth,
    Cut,
    Delay,
    Duplicate,
    Flip,
    HalfOpen,
    Kill,
    LoseReply,
    Loss,
    Pause,
    Reorder,
    Reset,
    Skew,
    Slice,
    Slow,
    Stop,
)
from chaos.scenarios.model import Case, Limits, Scenario

EVERYTHING = (
    *(
        Kill(),
        Pause(),
        HalfOpen(),
        Stop(),
        Slow(),
        Cut(),
        Cut(("to",)),
        Cut(("back",)),
        Reset(),
        LoseReply(),
        LoseReply(5),
    ),
    *(
        Delay(0.2, 0.1),
        Loss(),
        Bandwidth(),
        Flip(),
        Slice(),
        Duplicate(0.01),
        Reorder(0.01),
        Skew(3600.0),
        Skew(-3600.0),
    ),
)

SCENARIOS = (
    Scenario(
        23,
        "steady",
        "twelve minutes of sessions that begin and end, and of clients that vanish: memory does not grow",
        (Case("steady", (), sessions=4, seconds=720.0, passing=10, memory=True),),
    ),
)
STORM = Scenario(  # runs when it is named
    22,
    "storm",
    "every kind of fault at random, one at a time in each part, for as long as is asked",
    (Case("storm", (), sessions=4, seconds=1200.0, memory=True, storm=EVERYTHING),),
    Layout(bootstraps=2, inside=True),
    Limits(crash_noticed=10.0, stall_noticed=15.0, success=0.999),
)
