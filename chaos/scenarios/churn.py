"""Workers and clients that come and go under load."""

from __future__ import annotations

from chaos.faults import Kill
from chaos.scenarios.model import Case, Limits, Moment, Scenario, Strike, Target

SCENARIOS = (
    Scenario(
        17,
        "churn",
        "one of six workers killed and started again every 5 s, never the last replica of its layers",
        (
            Case(
                "churn", (Strike(Kill(), Target("redundant"), Moment("every", seconds=5.0)),), sessions=4, seconds=300.0
            ),
        ),
        limits=Limits(success=0.999),
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
                seconds=60.0,
            ),
        ),
        limits=Limits(success=0.999),
    ),
    Scenario(
        19,
        "vanish",
        "clients with hundreds of sessions vanish in mid-stream: workers are at rest again",
        (Case("three clients of a hundred sessions", (), requests=2, vanishing=(100, 100, 100)),),
    ),
)
