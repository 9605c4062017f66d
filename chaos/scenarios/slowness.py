"""Workers that answer, but late."""

from __future__ import annotations

from chaos.faults import Slow
from chaos.scenarios.model import FIRST, MIDDLE, Case, Limits, Scenario, Strike, hop, row

SCENARIOS = (
    Scenario(
        4,
        "slow-worker",
        "one worker ten times slower: left within three slow steps, suspected for no longer than a minute, not banned",
        tuple(
            Case(f"hop {part}, {name}", (Strike(Slow(10.0), hop(part), row(at, part)),), requests=3)
            for part in range(3)
            for name, at in (("decode 1", FIRST), ("middle", MIDDLE))
        ),
        limits=Limits(slow_steps=3),
    ),
)
