"""Workers and clients that come and go under load."""

from __future__ import annotations

from chaos.faults import Kill
from chaos.scenarios.model import Case, Limits, Moment, Scenario, Strike, Target

ENOUGH = 1000  # requests, for a share of 99.9 % to mean something

SCENARIOS = (
    Scenario(
        17,
        "churn",
        "one of six workers killed and started again every 5 s, never the last replica of its layers; then any",
        (
            Case(
                "churn",
                (Strike(Kill(), Target("redundant"), Moment("every", seconds=5.0)),),
                sessions=4,
                requests=ENOUGH,
                seconds=300.0,
            ),
            Case(
                "unguarded: any worker, back after 12 s",
                (Strike(Kill(), Target("serving"), Moment("every", seconds=5.0), lasts=12.0),),
                sessions=4,
                seconds=45.0,
            ),
        ),
        limits=Limits(success=0.999, resumed=5.0),
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
                requests=ENOUGH,
                seconds=60.0,
            ),
        ),
        limits=Limits(success=0.999),
    ),
    Scenario(
        19,
        "vanish",
        "a thousand clients (sessions of eight processes) vanish in mid-stream: workers are at rest again",
        (Case("a thousand sessions of eight processes", (), requests=2, vanishing=(125,) * 8),),
    ),
)
