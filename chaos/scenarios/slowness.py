"""Workers that answer, but late."""

from __future__ import annotations

from chaos.faults import Slow
from chaos.scenarios.model import FIRST, Case, Scenario, Strike, hop, row

SCENARIOS = (
    Scenario(
        4,
        "slow-worker",
        "one worker ten times slower: no token lost, nobody banned",
        (Case("ten times", (Strike(Slow(10.0), hop(1), row(FIRST, 1)),), requests=3),),
    ),
)
