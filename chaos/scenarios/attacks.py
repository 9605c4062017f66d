"""Peers that mean harm, and budgets that are full.

Attackers come from addresses of their own, and hold still every other second: the gaps under attack are compared with those.
"""

from __future__ import annotations

from chaos.farm import Layout
from chaos.faults import NoMemory
from chaos.scenarios.model import FIRST, Case, Limits, Moment, Scenario, Strike, Target, row

PEACE_SECONDS = 8.0

SCENARIOS = (
    Scenario(
        8,
        "attack",
        "10,000 half-open connections, drips, lengths of 2³¹, lies about tensors, deep nesting: nobody else notices",
        (
            Case("at peace", (), sessions=2, seconds=PEACE_SECONDS),
            *(
                Case(kind, (), sessions=2, seconds=seconds, attack=kind)
                for kind, seconds in (
                    ("half-open", 40.0),
                    ("drip", 24.0),
                    ("lengths", 20.0),
                    ("lies", 16.0),
                    ("nesting", 24.0),
                )
            ),
            Case("at peace again", (), sessions=2, seconds=PEACE_SECONDS),
        ),
        Layout(replicas=1),
        Limits(suspects=False, recoveries=0, grown=64 << 20, gap_share=1.2),
    ),
    Scenario(
        16,
        "full",
        "the cache's budget is full, memory cannot be had: Overloaded, and running sessions are unharmed",
        (
            Case("sessions of strangers fill the cache", (), sessions=4, requests=16, attack="hog"),
            Case(
                "no memory at one of two workers",
                (Strike(NoMemory(), Target("replicas", 1, 1), row(FIRST, 1), lasts=8.0),),
                requests=6,
            ),
            Case(
                "no memory at one of two workers from the beginning",
                (Strike(NoMemory(), Target("replicas", 1, 1), Moment("before")),),
                sessions=4,
                requests=12,
            ),
        ),
        Layout(inside=True, options=("--max-memory", "160MB")),
    ),
)
