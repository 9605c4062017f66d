"""Activations between the linear layers of an MLP: as defined, and with the same bits wherever a row lies."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from swarm.engine import PRECISIONS
from swarm.engine.layers.activations import activation_of, bounded, gated

SLOPED = activation_of("silu", 1.702)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("inner", [64, 384, 2880, 8192])
def test_a_row_s_place_decides_no_bits_of_bounded_gates(precision: str, inner: int) -> None:
    rows = (6 * torch.randn(40, 2 * inner)).to(PRECISIONS[precision].dtype)
    compute = partial(gated, activation=SLOPED)
    alone = torch.cat([compute(bounded(row, 7.0)) for row in rows.split(1)])
    for size in (2, 3, 16, 40):
        assert torch.equal(torch.cat([compute(bounded(part, 7.0)) for part in rows.split(size)]), alone)


def test_gates_have_one_bound_and_ups_two() -> None:
    gate_up = torch.tensor([[-9.0, 9.0, 1.0, 9.0, -9.0, 0.5]])
    assert bounded(gate_up, 7.0).tolist() == [[-9.0, 7.0, 1.0, 8.0, -6.0, 1.5]]


def test_padding_adds_nothing() -> None:
    assert not gated(bounded(torch.zeros(1, 128), 7.0), SLOPED).any()


def test_silu_is_swish_of_slope_one() -> None:
    x = torch.randn(1, 64)
    torch.testing.assert_close(activation_of("silu", 1.0)(x), activation_of("silu", None)(x))
