"""Bootstraps that are gone, records that lie, clocks that do not agree."""

from __future__ import annotations

from chaos.faults import Kill
from chaos.scenarios.model import MIDDLE, Case, Layout, Moment, Scenario, Strike, Target, row

SCENARIOS = (
    Scenario(
        9,
        "no-bootstrap",
        "every bootstrap dead; a cold start with one of two dead",
        (
            Case("both die", (Strike(Kill(), Target("bootstraps"), row(MIDDLE)),), requests=4),
            Case(
                "cold start, one of two dead",
                (Strike(Kill(), Target("bootstraps", count=1), Moment("before")),),
                requests=2,
                first_token=10.0,
            ),
        ),
        Layout(bootstraps=2),
    ),
)
