"""What must hold in every run, whatever was done to the swarm. Pure: outcomes in, breaches out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random

from chaos.runner.load import GRACE_SECONDS, Request
from chaos.runner.run import CaseResult, Outcome

LONGEST_SILENCE = 15.0  # seconds without a token or a word about what is waited for
LONGEST_SUSPICION = 60.0  # seconds for which an honest peer is avoided
MAX_LEFTOVER_FILES = 2
MIB = 1 << 20
DEALS = 200  # of the turns of an attack
CHANCE = 0.05
MAX_GROWTH = 0.01  # of resident memory, in ten minutes after the warm-up


@dataclass(frozen=True, slots=True)
class Breach:
    """Something that must not be."""

    invariant: str  # "I1" and so on, or the scenario's own limit
    case: str
    what: str

    def __str__(self) -> str:
        return f"{self.invariant}, {self.case}: {self.what}"


def percentile(values: list[float], part: float) -> float | None:
    """The nearest rank; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-int(1000 * part) * len(ordered) // 1000) - 1))]


def breaches(outcome: Outcome, layers_of: dict[int, str]) -> list[Breach]:
    """All of them. `layers_of` names the layers of each part."""
    found: list[Breach] = []
    results = [*([outcome.undisturbed] if outcome.undisturbed else []), *outcome.cases]
    for result in results:
        found += [Breach(name, result.case.name, what) for name, what in _of_case(result, layers_of)]
    found += [Breach("I7", "all", complaint) for complaint in outcome.complaints]
    found += [Breach("start", each.start.name, each.wrong) for each in outcome.starts if each.wrong is not None]
    return found + [Breach(name, "all", what) for of in (_of_limits, _of_attacks) for name, what in of(outcome)]


def _of_case(result: CaseResult, layers_of: dict[int, str]) -> Iterator[tuple[str, str]]:
    for number, request in enumerate(result.requests):
        who = f"request {number}"
        if request.wrong_tokens and not result.case.lying:
            at = next(
                i for i, pair in enumerate(zip(request.ids, request.expected, strict=False)) if pair[0] != pair[1]
            )
            yield "I1", f"{who}: token {at} is {request.ids[at]}, the unsplit model's is {request.expected[at]}"
        if not request.exact:
            yield "I1", f"{who}: the session calls itself inexact"
        if request.hung or request.ended is None:
            yield "I2", f"{who} did not end within {result.case.deadline + GRACE_SECONDS:g} s"
        silence = _longest_silence(request, result.clocked.signs)
        if silence > LONGEST_SILENCE:
            yield "I2", f"{who}: {silence:.1f} s without a sign of life"
        if [*request.indexes] != [*range(len(request.ids))]:
            yield "I3", f"{who}: the stream's indexes are {[*request.indexes]}"
        if request.error is None and len(request.ids) < len(request.expected):
            yield "I3", f"{who}: {len(request.ids)} of {len(request.expected)} tokens, and no error"
        if result.case.failing is not None:
            named = layers_of[result.case.failing]
            if request.error is None or named not in request.error:
                yield "limit", f"{who} was to fail and name layers {named}, but: {request.error or 'it succeeded'}"
    if result.settled is None:
        yield "I4", f"not at rest after a minute: {result.unsettled}"
    if result.leftover_files > MAX_LEFTOVER_FILES:
        yield "I4", f"the client left {result.leftover_files} files open"
    if result.leftover_tasks:
        yield "I4", f"the client left tasks: {', '.join(result.leftover_tasks)}"
    for member, part in result.memory.growths().items():
        if part > MAX_GROWTH:
            yield "I5", f"{member} grows by {part:.2%} in ten minutes"
    for member, seconds in result.clocked.suspected:
        if seconds > LONGEST_SUSPICION and member not in result.clocked.liars:
            yield "I6", f"{member} is suspected for {seconds:.0f} s"
    for member in result.clocked.banned:
        if member not in result.clocked.liars:
            yield "I6", f"{member} is banned and never lied"
    if not result.fired:
        yield "schedule", "a fault of the case was never applied"


def _of_limits(outcome: Outcome) -> Iterator[tuple[str, str]]:
    limits = outcome.scenario.limits
    right_ones = [result for result in outcome.cases if result.case.failing is None and not result.case.lying]
    asked = [request for result in right_ones for request in result.requests]
    right = sum(request.right for request in asked)
    if asked and right / len(asked) < limits.success:
        errors = sorted({request.error or "wrong or missing tokens" for request in asked if not request.right})
        yield "limit", f"{right} of {len(asked)} requests succeeded; {'; '.join(errors)[:600]}"
    for kind, most in (("crash", limits.crash_noticed), ("stall", limits.stall_noticed)):
        noticed = [each for result in outcome.cases for each in result.clocked.noticed[kind]]  # type: ignore[index]
        worst = percentile(noticed, 0.95)
        if worst is not None and worst > most:
            yield "limit", f"a {kind} was noticed after {worst:.2f} s (p95), {most:g} s are promised"
    suspected = sorted({member for result in outcome.cases for member, _ in result.clocked.suspected})
    if suspected and not limits.suspects:
        yield "limit", f"suspected: {', '.join(suspected)}"
    recovered = sum(request.recoveries for request in asked)
    if limits.recoveries == 0 and recovered:
        yield "limit", f"{recovered} failovers where none is needed"
    if limits.recoveries is not None and recovered < limits.recoveries:
        yield "limit", f"{recovered} failovers, at least {limits.recoveries} were to be forced"
    for result in outcome.cases:
        laggards = result.clocked.laggards
        for peer, steps in laggards.steps.items():
            if limits.slow_steps is not None and peer not in laggards.left:
                yield "limit", f"{result.case.name}: {peer} was slow and was not left"
            elif limits.slow_steps is not None and steps > limits.slow_steps:
                yield (
                    "limit",
                    f"{result.case.name}: {peer} was left after {steps} slow steps, {limits.slow_steps} are allowed",
                )
    caught = sum(len(result.clocked.liars & {*result.clocked.banned}) for result in outcome.cases)
    if limits.caught is not None and caught < limits.caught:
        yield "limit", f"{caught} liars were banned, at least {limits.caught} were to be"
    for what, least, seen in (("moves", limits.moves, outcome.moves), ("waits", limits.waits, outcome.waits)):
        if least is not None and seen < least:
            yield "limit", f"{seen} {what} of workers, at least {least} were to be"
    for seconds in resumed(outcome):
        if limits.resumed is not None and seconds > limits.resumed:
            yield "limit", f"went on {seconds:.1f} s after the return, {limits.resumed:g} s are promised"
    for result in outcome.cases:
        first = [request.times[0] for request in result.requests if request.times]
        began = min((request.began for request in result.requests), default=0.0)
        if result.case.first_token is not None and first:
            seconds = result.opening + min(first) - began
            if seconds > result.case.first_token:
                yield "limit", f"{result.case.name}: the first token came after {seconds:.1f} s"


def _of_attacks(outcome: Outcome) -> Iterator[tuple[str, str]]:
    """Workers must not grow, and others' tokens must come as they do while the attackers hold still."""
    limits = outcome.scenario.limits
    for result in outcome.cases:
        if result.attack is None:
            continue
        if not result.attack.met:
            yield "schedule", f"{result.case.name}: the attackers met with nothing"
        for member, grown in result.attack.grown.items():
            if limits.grown is not None and grown > limits.grown:
                yield "limit", f"{result.case.name}: {member} grew by {grown / MIB:.0f} MiB"
        turns = result.attack.turns(result.requests)
        if limits.gap_share is not None and slowed(turns, limits.gap_share):
            gap, usual = (1e3 * (percentile(_pooled(turns, acting), 0.95) or 0.0) for acting in (True, False))
            yield "limit", f"{result.case.name}: p95 of gaps {gap:.1f} ms, without an attack {usual:.1f} ms"


def slowed(turns: Sequence[tuple[bool, list[float]]], share: float) -> bool:
    """Whether the p95 under attack is beyond this share of that without, by more than chance does on this machine.

    On one that is busy with other things two halves of the same seconds differ, too: the turns are dealt anew many times, and
    what comes out as large as often as once in twenty says nothing.
    """

    def ratio(actings: Sequence[bool]) -> float:
        dealt = [(acting, gaps) for acting, (_, gaps) in zip(actings, turns, strict=True)]
        under, without = (percentile(_pooled(dealt, acting), 0.95) for acting in (True, False))
        return under / without if under and without else 0.0

    actings = [acting for acting, _ in turns]
    seen, dice = ratio(actings), Random(len(turns))
    if seen <= share:
        return False
    as_large = sum(ratio(dice.sample(actings, len(actings))) >= seen for _ in range(DEALS))
    return as_large < DEALS * CHANCE


def _pooled(turns: Sequence[tuple[bool, list[float]]], acting: bool) -> list[float]:
    return [gap for acted, gaps in turns if acted is acting for gap in gaps]


def resumed(outcome: Outcome) -> list[float]:
    """Seconds from a member's return in mid-case to the next token of each request that waited for it."""
    found = []
    for result in outcome.cases:
        for back in result.clocked.returns:
            for request in result.requests:
                after = [moment for moment in request.times if moment > back]
                again = [other for other in result.clocked.returns if after and back < other <= after[0]]
                if request.began < back and after and not again:  # else it went away again, and came back later
                    found.append(after[0] - back)
    return found


def _longest_silence(request: Request, signs: list[float]) -> float:
    ended = request.ended if request.ended is not None else request.began
    heard = [moment for moment in signs if request.began < moment < ended]
    moments = sorted([request.began, *request.times, *heard, ended])
    return max((after - before for before, after in pairwise(moments)), default=0.0)
