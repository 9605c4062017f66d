"""Processes that die or are told to stop, one or several, and come back or not."""

from __future__ import annotations

from chaos.farm import Layout
from chaos.faults import Kill, Stop
from chaos.scenarios.model import (
    BOTH,
    MID_PROMPT,
    MIDDLE,
    Case,
    Limits,
    Moment,
    Scenario,
    Strike,
    Target,
    everywhere,
    hop,
    row,
)

SCENARIOS = (
    Scenario(
        1,
        "kill",
        "SIGKILL at every hop, at every kind of moment",
        everywhere(Kill()),
        limits=Limits(recoveries=12),
        precisions=BOTH,
    ),
    Scenario(
        2,
        "kill-two",
        "the replacement killed during its replay; two workers at once",
        (
            Case(
                "the replacement too",
                (
                    Strike(Kill(), hop(1), row(MIDDLE, 1)),
                    Strike(Kill(), hop(1), Moment("replay", MID_PROMPT, 1)),
                ),
            ),
            Case("two at once", (Strike(Kill(), Target("chain", count=2), row(MIDDLE)),)),
            Case("the whole chain", (Strike(Kill(), Target("chain"), row(MIDDLE)),)),
        ),
        Layout(replicas=3),
        Limits(recoveries=5),
        precisions=BOTH,
    ),
    Scenario(
        10,
        "gone",
        "all replicas of a part dead: one back after 20 s, or none before the deadline",
        (
            Case(
                "one back after 20 s",
                (Strike(Kill(), Target("replicas", 1), row(MIDDLE, 1), lasts=20.0, back=1),),
                sessions=2,
                requests=2,
            ),
            Case(
                "none comes back",
                (Strike(Kill(), Target("replicas", 1), row(MIDDLE, 1)),),
                deadline=4.0,
                failing=1,
            ),
        ),
        limits=Limits(resumed=5.0),
    ),
    Scenario(
        20,
        "rolling-restart",
        "every worker told to stop by SIGTERM and started again, one after another: not one failed request",
        (Case("in turn", (Strike(Stop(), Target("each"), Moment("in turn", seconds=0.5)),), sessions=2),),
    ),
)
