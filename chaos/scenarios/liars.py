"""Workers that answer wrongly, and sign it. Their sessions' tokens may be wrong; what counts is that they are found."""

from __future__ import annotations

from chaos.farm import Layout
from chaos.faults import Kill, Lies
from chaos.scenarios.model import FIRST, MIDDLE, Case, Limits, Moment, Scenario, Strike, Target, hop, row

# Three of everything: the audited one, a second, and a third to settle it. All are on one machine
LAYOUT = Layout(spans=1, replicas=3, inside=True)
AUDITED: tuple[tuple[str, object], ...] = (("audit_share", 1.0), ("audit_private", True))
LINGERS = 30.0  # seconds
FOUND = (
    "last-bit",
    "small-noise",
    "large-noise",
    "identity",
    "skipped-layer",
    "other-weights",
    "stale-cache",
    "half-context",
)
REFUSED = ("nan", "wrong-shape")  # as the rows come, without an audit

SCENARIOS = (
    Scenario(
        11,
        "liar",
        "a worker turns liar in the middle of a session: found by its audit and banned, nobody else is",
        tuple(
            Case(kind, (Strike(Lies(kind), hop(0), row(FIRST)),), client=AUDITED, lingers=LINGERS)
            for kind in FOUND + REFUSED
        ),
        layout=LAYOUT,
        limits=Limits(caught=len(FOUND)),
    ),
    Scenario(
        12,
        "framing",
        "a worker tells the truth until somebody compares: no honest one is banned for it",
        (
            Case(
                "when it takes over",
                (
                    Strike(Kill(), hop(0), row(MIDDLE)),
                    Strike(Lies("large-noise", "replays"), hop(0), Moment("replay")),
                ),
                client=AUDITED,
                lingers=LINGERS,
            ),
            Case(
                "when it is asked",
                (Strike(Lies("large-noise", "replays"), Target("replicas", 0, count=1), Moment("before")),),
                requests=6,
                client=AUDITED,
                lingers=LINGERS,
            ),
        ),
        layout=LAYOUT,
        limits=Limits(caught=1),
    ),
)
