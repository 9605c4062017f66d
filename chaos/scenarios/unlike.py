"""Workers that have nothing in common but the model and its precision: they must agree to the bit, and only liars may not."""

from __future__ import annotations

from chaos.farm import Layout
from chaos.faults import Kill, Lies
from chaos.scenarios.liars import AUDITED, FOUND, LINGERS, REFUSED
from chaos.scenarios.model import (
    FIRST,
    MID_PROMPT,
    MIDDLE,
    Case,
    Limits,
    Moment,
    Scenario,
    Strike,
    Target,
    hop,
    row,
)

SMALL = ("one-row",)  # the last bit of one number, in one row of the answer
CHURN_SECONDS = 30.0
HUNT = 40  # requests at most, until the liar is found: half of the audits are of his part


def audited(name: str, *strikes: Strike, hunted: bool = False) -> Case:
    requests = HUNT if hunted else 1
    return Case(name, strikes, requests=requests, hunted=hunted, client=AUDITED, lingers=LINGERS)


def liar(kind: str) -> Strike:
    return Strike(Lies(kind), hop(0), row(FIRST))


SCENARIOS = (
    Scenario(
        25,
        "unlike",
        "threads, instruction sets and compilers differ: the bits do not, through kills; every liar is found, and nobody else",
        (
            *(
                audited(f"hop {part} killed, {name}", Strike(Kill(), hop(part), row(position, part)))
                for part in range(2)
                for name, position in (("mid-prompt", MID_PROMPT), ("decode 1", FIRST), ("middle", MIDDLE))
            ),
            audited(
                "the replacement too",
                Strike(Kill(), hop(1), row(MIDDLE, 1)),
                Strike(Kill(), hop(1), Moment("replay", MID_PROMPT, 1)),
            ),
            Case(
                "one killed every 5 s",
                (Strike(Kill(), Target("redundant"), Moment("every", seconds=5.0)),),
                sessions=2,
                seconds=CHURN_SECONDS,
                client=AUDITED,
                lingers=LINGERS,
            ),
            *(audited(kind, liar(kind), hunted=True) for kind in (*FOUND, *SMALL)),
            *(audited(kind, liar(kind)) for kind in REFUSED),
            audited(
                "one-row, and its neighbour killed",
                liar("one-row"),
                Strike(Kill(), hop(1), row(MIDDLE, 1)),
                hunted=True,
            ),
            audited(
                "large-noise, when it takes over",
                Strike(Kill(), hop(0), row(MIDDLE)),
                Strike(Lies("large-noise", "replays"), hop(0), Moment("replay")),
                hunted=True,
            ),
        ),
        layout=Layout(spans=2, replicas=3, inside=True, unlike=True),
        limits=Limits(recoveries=7, caught=len(FOUND) + len(SMALL) + 2),
        precisions=("bf16", "int4"),
    ),
)
