"""Kernels under AddressSanitizer and UBSan, of any sizes and numbers: the same bits by every path, and no access outside."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernels.proof.program import answers, golden, unlike

from swarm.kernels.library import ACTIVATIONS, CACHES, WEIGHTS

pytestmark = pytest.mark.kernels

FEW, FLAG = st.integers(1, 12), st.integers(0, 1)
GAP = st.integers(0, 5)  # numbers between rows
OPERATIONS = {  # sizes, as driver/cases.c reads them
    "linear": (st.integers(0, len(WEIGHTS) - 1), st.integers(1, 90), st.integers(1, 330), FEW, FLAG, GAP),
    "wide": (
        st.integers(WEIGHTS.index("int8"), len(WEIGHTS) - 1),
        st.integers(1, 90),
        st.integers(1, 330),
        FEW,
        FLAG,
        GAP,
    ),
    "norm": (st.integers(1, 200), FEW, FLAG, FLAG, FLAG, GAP),
    "activation": (st.integers(0, len(ACTIVATIONS) - 1), st.integers(1, 100), FEW, FLAG, FLAG, GAP),
    "softmax": (st.integers(1, 200), FEW, GAP),
    "rotation": (FEW, st.integers(1, 70), FEW, GAP),
    "turns": (FEW, st.integers(1, 70)),
    "attention": (
        *(st.integers(0, len(CACHES) - 1), st.integers(1, 3), st.integers(1, 5), st.integers(1, 150), FEW),
        *(st.integers(1, 420), st.integers(1, 3), FLAG, FLAG, FLAG, FLAG),
    ),
    "delta": (
        *(st.integers(0, CACHES.index("bf16")), st.integers(1, 3), st.integers(1, 3), st.integers(1, 40)),
        *(st.integers(1, 90), st.integers(1, 5), st.integers(1, 40), st.integers(1, 3), FLAG, GAP),
    ),
}


@st.composite
def cases(draw: st.DrawFn) -> str:
    name = draw(st.sampled_from(sorted(OPERATIONS)))
    values, seed, threads = draw(FLAG), draw(st.integers(1, 1 << 30)), draw(st.integers(1, 4))
    return " ".join(map(str, (name, values, seed, threads, *(draw(size) for size in OPERATIONS[name]))))


def test_golden_bits(sanitized: Path) -> None:
    assert not unlike(answers([sanitized], list(golden())), golden())


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(asked=st.lists(cases(), min_size=1, max_size=12))
def test_one_set_of_bits(sanitized: Path, asked: list[str]) -> None:
    different = [
        f"{case}: {found}" for case, found in zip(asked, answers([sanitized], asked), strict=True) if " " in found
    ]
    assert not different
