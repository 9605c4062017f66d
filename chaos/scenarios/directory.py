"""Bootstraps that are gone, records that lie, clocks that do not agree."""

from __future__ import annotations

from chaos.faults import Kill, Skew
from chaos.scenarios.model import MIDDLE, Case, Layout, Limits, Moment, Scenario, Strike, Target, row

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
    Scenario(
        14,
        "clocks",
        "clocks that jump an hour while running, for longer than a record lives",
        (
            Case(
                "a third ahead or behind",
                (
                    Strike(Skew(3600.0), Target("workers", count=1), Moment("before")),
                    Strike(Skew(-3600.0), Target("redundant"), Moment("every", seconds=10.0), lasts=20.0),
                ),
                sessions=2,
                seconds=90.0,
            ),
        ),
        Layout(inside=True),
        Limits(suspects=False, recoveries=0),
    ),
)
