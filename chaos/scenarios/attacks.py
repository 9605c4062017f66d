"""Peers that mean harm, and budgets that are full.

Attackers come from addresses of their own. Between two attacks the same requests go by undisturbed, so that what the machine
does otherwise is the same in both: their gaps are what the gaps under attack are compared with.
"""

from __future__ import annotations

from chaos.farm import Layout
from chaos.faults import NoMemory
from chaos.scenarios.model import FIRST, Case, Limits, Moment, Scenario, Strike, Target, row

ATTACK_SECONDS = 15.0
MALICE = ("half-open", "drip", "lengths", "lies", "nesting")

SCENARIOS = (
    Scenario(
        8,
        "attack",
        "10,000 half-open connections, drips, lengths of 2³¹, lies about tensors, deep nesting: nobody else notices",
        (
            Case("at peace", (), sessions=2, seconds=ATTACK_SECONDS),
            *(
                case
                for kind in MALICE
                for case in (
                    Case(kind, (), sessions=2, seconds=ATTACK_SECONDS, attack=kind),
                    Case(f"after {kind}", (), sessions=2, seconds=ATTACK_SECONDS),
                )
            ),
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
