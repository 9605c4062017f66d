"""What is worth running between namespaces: machines that vanish without a word, loss of all traffic, any two cut apart.

These are the scenarios of `run --namespaces`; the other lists know nothing of them.
"""

from __future__ import annotations

from chaos.farm import Layout
from chaos.faults import Bandwidth, Cut, Delay, HalfOpen, Kill, Loss, Part, Pause
from chaos.scenarios.model import (
    APART_SECONDS,
    MIDDLE,
    Case,
    Limits,
    Moment,
    Scenario,
    Strike,
    Target,
    cut_off,
    everywhere,
    link,
    row,
    struck,
)

SCENARIOS = (
    Scenario(
        1,
        "power-cut",
        "a machine vanishes at every hop, at every kind of moment: no FIN, no RST",
        everywhere(HalfOpen()),
        limits=Limits(recoveries=12),
    ),
    Scenario(
        3,
        "silence",
        "SIGKILL, SIGSTOP and a vanished machine, at one hop after another",
        tuple(
            struck(f"hop {part}, {fault.name}", fault, part=part)
            for part in range(3)
            for fault in (Kill(), Pause(), HalfOpen())
        ),
        limits=Limits(recoveries=9),
    ),
    Scenario(
        5,
        "bad-link",
        "200±100 ms round trips, 5 % of all traffic lost, 1 Mbit/s: it completes, and nobody is suspected",
        (link("everything together", Delay(0.2, 0.1), Loss(0.05), Bandwidth(), requests=6),),
        limits=Limits(suspects=False, recoveries=0),
    ),
    Scenario(
        6,
        "apart",
        "client and worker apart, workers and directory apart, one way or both; a worker cut off from everybody",
        (
            *cut_off(
                "",
                *(Part("client"), Part("client", ("to",)), Part("client", ("back",))),
                *(Cut(), Cut(("to",)), Cut(("back",))),
            ),
            *(
                Case(
                    f"every worker {fault.name}",
                    (Strike(fault, Target("workers"), Moment("before")),),
                    sessions=2,
                    requests=4,
                )
                for fault in (
                    Part("bootstrap", kind="link"),
                    Part("bootstrap", ("to",), kind="link"),
                    Part("bootstrap", ("back",), kind="link"),
                )
            ),
            Case(
                "the directory cut off from everybody",
                (Strike(Cut(kind="link"), Target("bootstraps"), row(MIDDLE)),),
                requests=3,
            ),
            Case(
                "both replicas apart from the client for 8 s",
                (Strike(Part("client"), Target("replicas", 1), row(MIDDLE, 1), lasts=APART_SECONDS),),
            ),
        ),
        limits=Limits(resumed=5.0),
    ),
    Scenario(
        9,
        "silent-bootstraps",
        "every bootstrap's machine vanished; a cold start with one of two vanished, which says not even that nobody listens",
        (
            Case("both vanish", (Strike(HalfOpen(), Target("bootstraps"), row(MIDDLE)),), requests=4),
            Case(
                "cold start, one of two vanished",
                (Strike(HalfOpen(), Target("bootstraps", count=1), Moment("before")),),
                requests=2,
                first_token=10.0,
            ),
            Case(
                "cold start on a bad link, one of two vanished",
                (
                    Strike(HalfOpen(), Target("bootstraps", count=1), Moment("before")),
                    *(
                        Strike(fault, Target(who), Moment("before"))
                        for fault in (Delay(0.2, 0.1), Loss(0.05))
                        for who in ("workers", "bootstraps")
                    ),
                ),
                requests=2,
                first_token=20.0,  # of which a prompt takes seven there
            ),
        ),
        Layout(bootstraps=2),
    ),
)
