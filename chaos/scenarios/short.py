"""A little of everything, for tests that have a minute: one farm, one case for each kind of fault."""

from __future__ import annotations

from chaos.faults import Cut, Duplicate, Flip, HalfOpen, Kill, LoseReply, Pause, Reorder, Reset
from chaos.scenarios.model import (
    BOTH,
    FIRST,
    MID_PROMPT,
    MIDDLE,
    Case,
    Limits,
    Scenario,
    Strike,
    Target,
    hop,
    row,
    struck,
)

SHORT = Scenario(  # runs when it is named
    24,
    "short",
    "a little of everything: killed, paused, cut off, damaged, half open",
    (
        struck("killed mid-prompt", Kill(), MID_PROMPT, 0, lasts=0.1),
        struck("killed in the middle", Kill(), part=1, lasts=0.1),
        struck("a reply lost", LoseReply(), FIRST, 2),
        struck("reset", Reset()),
        struck("bits flipped at one hop", Flip(1e-3), lasts=1.0),
        struck("everything twice at one hop", Duplicate(1.0), lasts=1.0),
        struck("nothing in order at one hop", Reorder(1.0), lasts=1.0),
        Case("paused until it is noticed", (Strike(Pause(), hop(2), row(MIDDLE, 2), until_noticed=True),)),
        Case("both bootstraps are away", (Strike(Cut(), Target("bootstraps"), row(MIDDLE)),), requests=2),
        Case("cut off until it is noticed", (Strike(Cut(), hop(0), row(MIDDLE), until_noticed=True),)),
        struck("half open: a machine without power", HalfOpen()),
    ),
    limits=Limits(recoveries=5),
    precisions=BOTH,
)
