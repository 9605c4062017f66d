"""Liars among honest workers, and thousands of audited sessions: who is caught, who is flagged for nothing, and what it costs.

Every session is audited here (users audit one in twenty), and after each everybody is forgiven, so that every session is a
trial of its own. `measure(sessions)` gives a row for each kind of trial.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from chaos.liars import Lie, in_replays
from chaos.simulation.audited import AuditedSwarm, Part, Session
from chaos.simulation.clock import run_virtual
from chaos.simulation.model import prepared
from chaos.simulation.seeding import seeded
from swarm.span import LayerSpan

WHOLE, FIRST, SECOND = LayerSpan(0, 2), LayerSpan(0, 1), LayerSpan(1, 2)
CLASSES = ("fp32", "bf16")
REFUSED = (Lie.NAN, Lie.WRONG_SHAPE)  # no audit is needed: clients refuse such rows as they arrive
LIES = tuple(kind for kind in Lie if kind not in REFUSED)
OTHER_CLASS = "another class audits"
HONEST_SHARE = 12  # sessions without any liar, for each one of another kind of trial


@dataclass(frozen=True, slots=True)
class Trial:
    """A swarm and what is asked of it."""

    group: str
    name: str
    swarms: tuple[tuple[Part, ...], ...]  # in turn
    options: dict[str, Any] = field(default_factory=dict)
    share: int = 1  # of all sessions
    promised: bool = True  # nobody honest is banned
    settled: bool = True  # there is a third, so that nobody honest is avoided either


@dataclass(slots=True)
class Figures:
    """Of all sessions of one trial. A session counts as lied in when a liar's rows were let into it."""

    trial: Trial
    sessions: int = 0
    audited: int = 0
    of_liars: int = 0  # audits of spans about which rows were wrong
    caught: int = 0  # of those: the liar is banned
    avoided: int = 0  # of those: it is only avoided
    banned: int = 0  # liars, in all
    refused: int = 0  # sessions that left a liar as its rows arrived
    honest_banned: int = 0
    honest_avoided: int = 0
    wrong_answers: int = 0
    failed: int = 0  # answers that ended with an error
    failovers: int = 0
    rows: int = 0  # of audited answers, through all their hops
    recomputed: int = 0
    seconds: list[float] = field(default_factory=list)  # virtual, of each audit
    cpu_seconds: float = 0.0

    @property
    def missed(self) -> int:
        return self.of_liars - self.caught - self.avoided

    def add(self, session: Session, liars: frozenset[str]) -> None:
        self.sessions += 1
        self.wrong_answers += session.wrong_tokens
        self.failed += bool(session.error)
        self.failovers += session.failovers
        self.banned += len(session.banned & liars)
        self.honest_banned += len(session.banned - liars)
        self.honest_avoided += len(session.avoided - liars - session.banned - session.stalled)
        self.refused += bool(session.lied and not session.served & liars)
        if not session.audited:
            return
        self.audited += 1
        self.rows += session.rows
        self.recomputed += session.recomputed
        self.seconds.append(session.seconds)
        if session.lied and session.audited in liars:
            self.of_liars += 1
            self.caught += session.audited in session.banned
            self.avoided += session.audited not in session.banned and session.audited in session.avoided


def trials() -> Iterator[Trial]:
    """All of them."""
    for precision in CLASSES:
        yield Trial("nobody lies", precision, (_among(precision),), share=HONEST_SHARE)
    yield Trial("nobody lies", "fp32 beside bf16", tuple(_beside(*pair) for pair in _PAIRS), share=HONEST_SHARE)
    for kind in (*LIES, *REFUSED):
        yield Trial("one class", kind, tuple(_among(precision, kind) for precision in CLASSES))
    for kind in LIES:
        yield Trial(OTHER_CLASS, kind, tuple(_beside(*pair, kind) for pair in _PAIRS))
    framed = tuple(_among(precision, Lie.LARGE_NOISE) for precision in CLASSES)
    yield Trial("framing", "lies in audits only", framed, {"only_in_audits": True}, share=2)
    yield Trial("framing", "in replays only, failovers", framed, {"moment": in_replays, "stalls": True}, share=2)
    subtle = tuple(_among(precision, Lie.LAST_BIT) for precision in CLASSES)
    yield Trial("framing", "a last bit, in audits only", subtle, {"only_in_audits": True}, share=2)
    yield Trial("framing", "two of one address block", tuple(map(_two_of_one_block, CLASSES)), share=2)
    other = tuple(_alone(*pair, Lie.LARGE_NOISE) for pair in _PAIRS)
    yield Trial("framing", "of another class, in audits only", other, {"only_in_audits": True}, share=2)
    pairs = tuple((Part(WHOLE, precision, Lie.LARGE_NOISE), Part(WHOLE, precision)) for precision in CLASSES)
    yield Trial("nobody to settle it", "two workers, one lies", pairs, settled=False)
    two = tuple(_two_of_two_blocks(precision) for precision in CLASSES)
    yield Trial("beyond what is promised", "two of two blocks who agree", two, promised=False)


_PAIRS = (("fp32", "bf16"), ("bf16", "fp32"))


def _among(precision: str, kind: Lie | None = None) -> tuple[Part, ...]:
    """One who perhaps lies, among honest workers of its class: some with all layers, some with one."""
    honest = (Part(WHOLE, precision),) * 3 + (Part(FIRST, precision), Part(SECOND, precision))
    return (Part(WHOLE, precision, kind), *honest)


def _beside(precision: str, other: str, kind: Lie | None = None) -> tuple[Part, ...]:
    """One who perhaps lies and is alone in its class, beside workers of another."""
    return (Part(WHOLE, precision, kind), *(Part(WHOLE, other),) * 3)


def _alone(precision: str, other: str, kind: Lie) -> tuple[Part, ...]:
    """An honest one that is alone in its class, beside workers of another, of which one lies."""
    return (Part(WHOLE, other, kind), Part(WHOLE, precision), *(Part(WHOLE, other),) * 2)


def _two_of_one_block(precision: str) -> tuple[Part, ...]:
    return (*(Part(WHOLE, precision, Lie.LARGE_NOISE, block=1),) * 2, *(Part(WHOLE, precision),) * 3)


def _two_of_two_blocks(precision: str) -> tuple[Part, ...]:
    return (*(Part(WHOLE, precision, Lie.LARGE_NOISE),) * 2, *(Part(WHOLE, precision),) * 4)


def measure(sessions: int, seed: int = 1, tell: Callable[[Figures], None] | None = None) -> list[Figures]:
    """So many sessions, shared out among the trials; at least one for each swarm."""
    everything = list(trials())
    shares = sum(trial.share for trial in everything)
    found = []
    for number, trial in enumerate(everything):
        count = max(1, round(sessions * trial.share / shares / len(trial.swarms)))
        found.append(run_trial(trial, count, seed + 1000 * number))
        if tell is not None:
            tell(found[-1])
    return found


def run_trial(trial: Trial, count: int, seed: int) -> Figures:
    """`count` sessions in each of its swarms."""
    made, figures = prepared(), Figures(trial)

    async def main(parts: tuple[Part, ...], seed: int) -> None:
        async with AuditedSwarm(parts, made, seed, **trial.options) as swarm:
            liars = frozenset(worker.name for worker in swarm.workers if worker.part.lies)
            for _ in range(count):
                figures.add(await swarm.ask(), liars)

    began = time.process_time()
    for number, parts in enumerate(trial.swarms):
        with seeded(seed + number):
            run_virtual(main(parts, seed + number))
    figures.cpu_seconds = time.process_time() - began
    return figures


COLUMNS: tuple[tuple[str, Callable[[Figures], str]], ...] = (
    ("", lambda one: one.trial.group),
    ("", lambda one: one.trial.name),
    ("sessions", lambda one: str(one.sessions)),
    ("audited", lambda one: str(one.audited)),
    ("of a liar's span", lambda one: str(one.of_liars)),
    ("caught", lambda one: _part(one.caught, one.of_liars)),
    ("only avoided", lambda one: _part(one.avoided, one.of_liars)),
    ("missed", lambda one: str(one.missed) if one.of_liars else ""),
    ("liars banned", lambda one: str(one.banned) if one.banned else ""),
    ("refused as rows came", lambda one: str(one.refused) if one.refused else ""),
    ("honest banned", lambda one: str(one.honest_banned)),
    ("honest avoided", lambda one: str(one.honest_avoided)),
    ("rows recomputed", lambda one: _part(one.recomputed, one.rows)),
    ("s an audit", lambda one: f"{statistics.fmean(one.seconds):.3f}" if one.seconds else ""),
    ("ms of CPU", lambda one: f"{1000 * one.cpu_seconds / max(1, one.sessions):.0f}"),
)


def _part(some: int, everything: int) -> str:
    return f"{some / everything:.0%}" if everything else ""


def table(found: Sequence[Figures]) -> str:
    """Markdown."""
    lines = ["| " + " | ".join(name for name, _ in COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for one in found:
        lines.append("| " + " | ".join(value(one) for _, value in COLUMNS) + " |")
    return "\n".join(lines)


def summary(found: Sequence[Figures]) -> str:
    """What the promises come to."""
    promised = [one for one in found if one.trial.promised]
    same = [one for one in promised if one.trial.group != OTHER_CLASS and one.trial.settled]
    audited, of_liars = sum(one.audited for one in promised), sum(one.of_liars for one in same)
    return (
        f"{audited} audited sessions, {sum(one.honest_banned for one in promised)} honest peers banned, "
        f"{sum(one.honest_avoided for one in promised if one.trial.settled)} avoided. In one numerics class "
        f"{sum(one.caught for one in same)} of {of_liars} audits of wrong rows banned the liar."
    )


def page(found: Sequence[Figures], seed: int) -> str:
    """What `python -m chaos audits --report` writes."""
    return f"""# Audits: who is caught, and who is flagged for nothing

{summary(found)}

`python -m chaos audits --sessions {sum(one.sessions for one in found)} --seed {seed}`

A swarm of two layers in virtual time. Every session is audited (users audit one in twenty), and everybody is forgiven after each.
A liar is caught when the audit of a span that it served with wrong rows bans it; "liars banned" counts also those that lied when
they were asked for a second opinion. Rows recomputed are relative to those that the audited answers took through all their hops.
Seconds are virtual: a call takes 10 ms, a message 2 ms.

{table(found)}

Across numerics classes rows are judged by a tolerance, so that a lie below it passes: a last bit, and noise of 2 % of what the
layers changed. Where nobody can settle a contradiction both sides are avoided for half a minute. Hops that contradicted two
together are all avoided too, as any of them may have lied, until an audit of each by itself finds its rows to be right. Two
liars in different address blocks who give the same wrong rows are a majority of three: no audit by three can tell them from
honest peers.
"""
