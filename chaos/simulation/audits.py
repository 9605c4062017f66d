"""Liars among honest workers, and thousands of audited sessions: who is caught, who is flagged for nothing, and what it costs.

Every session is audited here (users audit one in twenty), and after each everybody is forgiven, so that every session is a
trial of its own. `measure(sessions)` gives a row for each kind of trial.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from chaos.computers import restored
from chaos.simulation.audited import AuditedSwarm, Part, Session
from chaos.simulation.clock import run_virtual
from chaos.simulation.model import prepared
from chaos.simulation.seeding import seeded
from chaos.simulation.trials import OTHER_CLASS, UNLIKE, Trial, trials


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
    made, figures = prepared(trial.numerics), Figures(trial)

    async def main(parts: tuple[Part, ...], seed: int) -> None:
        async with AuditedSwarm(parts, made, seed, **trial.options) as swarm:
            liars = frozenset(worker.name for worker in swarm.workers if worker.part.lies)
            for _ in range(count):
                figures.add(await swarm.ask(), liars)

    began = time.process_time()
    for number, parts in enumerate(trial.swarms):
        with seeded(seed + number), restored():
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
    unlike = [one for one in same if one.trial.group == UNLIKE]
    return (
        f"{_accused(promised)} In one numerics class {_caught(same)} "
        f"Among computers with other threads and instruction sets, in portable numerics: {_accused(unlike)} {_caught(unlike)}"
    )


def _accused(found: Sequence[Figures]) -> str:
    return (
        f"{sum(one.audited for one in found)} audited sessions, {sum(one.honest_banned for one in found)} honest peers banned, "
        f"{sum(one.honest_avoided for one in found if one.trial.settled)} avoided."
    )


def _caught(found: Sequence[Figures]) -> str:
    return f"{sum(one.caught for one in found)} of {sum(one.of_liars for one in found)} audits of wrong rows banned the liar."


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

Of unlike computers no two have both the instruction set and the number of threads in common (one to three, and whatever this
machine has of AVX-512, AVX2 and plain C). They compute in one process, which changes over at every call; honest sessions are of
fp32, bf16, int8 and int4 in equal parts, others of bf16 and int4. Kernels by two compilers meet in `python -m chaos run unlike`.
"one-row" turns the last bit of one number in one row of sixteen.
"""
