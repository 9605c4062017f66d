"""Workers that choose their layers and move, while others come and go."""

from __future__ import annotations

from chaos.farm import Layout
from chaos.faults import Kill, Stop
from chaos.scenarios.model import Case, Limits, Moment, Scenario, Strike, Target

DRAINED = 30.0  # seconds in which a session leaves a worker that was told to stop: it may stay until the worker ends

SCENARIOS = (
    Scenario(
        26,
        "rebalance",
        "workers that choose their layers come and go under load: others move to where they are missed, every answer equal",
        (
            Case(
                "stopped, one after another",
                (Strike(Stop(), Target("roaming"), Moment("every", seconds=12.0), lasts=8.0),),
                sessions=3,
                seconds=75.0,
            ),
            Case(
                "killed, one after another",
                (Strike(Kill(), Target("roaming"), Moment("every", seconds=8.0), lasts=4.0),),
                sessions=3,
                seconds=30.0,
            ),
        ),
        layout=Layout(spans=2, replicas=1, roaming=3),
        limits=Limits(moves=1, crash_noticed=DRAINED),
    ),
    Scenario(
        27,
        "holes",
        "who alone holds layers is told to stop: it waits until another has moved there, every answer equal",
        (
            Case(
                "each of them, one after another",
                (Strike(Stop(), Target("held"), Moment("in turn", seconds=2.0)),),
                sessions=2,
            ),
        ),
        layout=Layout(spans=2, replicas=1, roaming=1, options=("--successor", "40")),
        limits=Limits(moves=1, waits=1, crash_noticed=DRAINED),
    ),
)
