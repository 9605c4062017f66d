"""What is tried with audits: swarms of honest workers and liars, as data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from chaos.computers import unlike
from chaos.liars import Lie, in_replays
from chaos.simulation.audited import Part
from chaos.simulation.model import PRECISIONS
from swarm.span import LayerSpan

WHOLE, FIRST, SECOND = LayerSpan(0, 2), LayerSpan(0, 1), LayerSpan(1, 2)
CLASSES = ("fp32", "bf16")
REFUSED = (Lie.NAN, Lie.WRONG_SHAPE)  # no audit is needed: clients refuse such rows as they arrive
LIES = tuple(kind for kind in Lie if kind not in REFUSED)
OTHER_CLASS = "another class audits"
UNLIKE = "unlike computers"
HONEST_SHARE = 12  # sessions without any liar, for each one of another kind of trial
UNLIKE_SHARE = 60  # likewise, where threads and instruction sets differ


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
    numerics: str = "native"


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
    yield from _unlike_trials()
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


def _unlike_trials() -> Iterator[Trial]:
    """Portable numerics; no two workers have the threads and the instruction set in common."""

    def trial(name: str, kind: Lie | None, share: int, options: dict[str, Any] | None = None) -> Trial:
        precisions = PRECISIONS["portable"] if kind is None else ("bf16", "int4")
        swarms = tuple(_unlike(precision, kind) for precision in precisions)
        return Trial(UNLIKE, name, swarms, options or {}, share, numerics="portable")

    yield trial("nobody lies", None, UNLIKE_SHARE)
    yield trial("nobody lies, failovers", None, HONEST_SHARE, {"stalls": True})
    for kind in (*LIES, *REFUSED):
        yield trial(kind, kind, 2)
    yield trial("lies in audits only", Lie.LARGE_NOISE, 2, {"only_in_audits": True})
    yield trial("a bit of one row, in audits only", Lie.ONE_ROW, 2, {"only_in_audits": True})
    yield trial("in replays only, failovers", Lie.LARGE_NOISE, 2, {"moment": in_replays, "stalls": True})


def _unlike(precision: str, kind: Lie | None) -> tuple[Part, ...]:
    parts = _among(precision, kind)
    return tuple(replace(part, computer=computer) for part, computer in zip(parts, unlike(len(parts)), strict=True))
