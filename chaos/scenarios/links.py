"""What the network does: distance, partitions, damage, replies that are lost."""

from __future__ import annotations

from chaos.farm import Layout
from chaos.faults import Bandwidth, Cut, Delay, Duplicate, Flip, LoseReply, Loss, Reorder, Reset, Slice
from chaos.scenarios.model import (
    APART_SECONDS,
    FIRST,
    MID_PROMPT,
    MIDDLE,
    Case,
    Limits,
    Scenario,
    Strike,
    Target,
    cut_off,
    link,
    row,
    struck,
)

SCENARIOS = (
    Scenario(
        5,
        "slow-link",
        "200±100 ms round trips, 5 % of UDP lost, 1 Mbit/s: it completes, and nobody is suspected",
        (link("everything together", Delay(0.2, 0.1), Loss(0.05), Bandwidth()),),
        limits=Limits(suspects=False, recoveries=0),
    ),
    Scenario(
        6,
        "partition",
        "a worker cut off, one way or both; the directory cut off: survivors serve, and what heals is used again",
        (
            *cut_off("a worker ", Cut(), Cut(("to",)), Cut(("back",))),
            Case("every bootstrap cut off", (Strike(Cut(), Target("bootstraps"), row(MIDDLE)),), requests=3),
            Case(
                "both replicas cut off for 8 s",
                (Strike(Cut(), Target("replicas", 1), row(MIDDLE, 1), lasts=APART_SECONDS),),
            ),
        ),
        limits=Limits(resumed=5.0),
    ),
    Scenario(
        7,
        "damage",
        "bit flips, truncation, resets, slices, what arrives twice or out of order: never a wrong token",
        (
            link("a wrong bit in 50 kB", Flip(2e-5), requests=6),
            struck("flips at one hop", Flip(1e-3), lasts=1.0),
            struck("reset", Reset()),
            struck("reset mid-prompt", Reset(), MID_PROMPT),
            *(struck(f"a reply cut after {size} bytes", LoseReply(size), FIRST) for size in (1, 5, 100)),
            link("pieces of 37 bytes", Slice(37), requests=2),
            link("twice and out of order", Duplicate(0.01), Reorder(0.01), requests=6),
            struck("everything twice at one hop", Duplicate(1.0), lasts=1.0),
            struck("nothing in order at one hop", Reorder(1.0), lasts=1.0),
        ),
    ),
    Scenario(
        21,
        "lost-reply",
        "a reply lost after the step was applied: the step is not applied again",
        tuple(
            struck(f"hop {part}", LoseReply(), position, part)
            for part, position in enumerate((MID_PROMPT, FIRST, MIDDLE))
        ),
        Layout(replicas=1),
        Limits(recoveries=0),
    ),
)
