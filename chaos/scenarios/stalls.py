"""Processes that stand still."""

from __future__ import annotations

from chaos.faults import HalfOpen, Pause
from chaos.scenarios.model import BOTH, MID_PROMPT, MIDDLE, Case, Limits, Scenario, Strike, hop, row, struck

SCENARIOS = (
    Scenario(
        3,
        "stall",
        "SIGSTOP, and SIGCONT later: late replies are dropped",
        (
            *(
                Case(
                    f"hop {part}, SIGCONT as soon as it is noticed",
                    (Strike(Pause(), hop(part), row(MIDDLE, part), until_noticed=True),),
                )
                for part in range(3)
            ),
            Case("mid-prompt", (Strike(Pause(), hop(1), row(MID_PROMPT, 1), until_noticed=True),)),
            struck("half open: a machine without power", HalfOpen()),
        ),
        limits=Limits(recoveries=5),
        precisions=BOTH,
    ),
)
