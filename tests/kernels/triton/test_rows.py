"""Norms, activations, softmax and rotation on a GPU: the bits of plain C."""

from __future__ import annotations

import pytest
import support.interpreted  # noqa: F401
import torch
from support.numbers import numbers_of, same_bits

from swarm.kernels import Library
from swarm.kernels.library import ACTIVATIONS
from swarm.kernels.triton import rows

EXTREMES = [-100.0, 100.0, 0.0, -0.0, 1e-30, 1e-42, torch.inf, -torch.inf, torch.nan]


@pytest.mark.parametrize("width", [1, 15, 100])
@pytest.mark.parametrize("centred", [False, True])
def test_norms(plain: Library, width: int, centred: bool) -> None:
    x, weight, bias = numbers_of(3, width), numbers_of(width), numbers_of(1, width)[0]
    x[2] *= 1e-22  # whose squares are subnormal
    expected, shift = torch.empty_like(x), bias.data_ptr() if centred else None
    plain.norm(x.data_ptr(), width, 3, width, weight.data_ptr(), shift, 1e-5, centred, expected.data_ptr(), width)
    rows.norm(x, x, weight, bias if centred else None, width, 1e-5, centred)
    assert same_bits(x, expected)


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_activations(plain: Library, kind: str) -> None:
    x = torch.cat((torch.linspace(-100, 100, 2001), torch.tensor(EXTREMES)))[None]
    found, expected = torch.empty_like(x), torch.empty_like(x)
    plain.activation(x.data_ptr(), x.shape[1], 1, x.shape[1], kind, expected.data_ptr(), gated=False)
    rows.activate(x, None, found, ACTIVATIONS.index(kind))
    assert same_bits(found, expected)


def test_gates_are_bounded(plain: Library) -> None:
    x = numbers_of(3, 200) * 2
    found, expected = torch.empty(3, 100), torch.empty(3, 100)
    plain.activation(
        x.data_ptr(), 200, 3, 100, "silu", expected.data_ptr(), gated=True, limit=2.0, slope=1.702, offset=1.0
    )
    rows.activate(x[:, :100], x[:, 100:], found, 0, 2.0, 1.702, 1.0)
    assert same_bits(found, expected)


def test_softmax(plain: Library) -> None:
    x = numbers_of(3, 100) * 10
    expected = torch.empty_like(x)
    plain.softmax(x.data_ptr(), 100, 3, 100, expected.data_ptr())
    rows.softmax(x, x)
    assert same_bits(x, expected)


def test_rotation(plain: Library) -> None:
    heads, cos, sin = numbers_of(3, 60), numbers_of(3, 10), numbers_of(10, 3).T.contiguous()
    found = torch.empty_like(heads)
    rows.rotate(heads, found, 3, torch.tensor([2, 0, 1]), cos, sin)
    cos, sin = cos[[2, 0, 1]], sin[[2, 0, 1]]
    plain.rotate(heads.data_ptr(), 60, 3, 3, 20, cos.data_ptr(), sin.data_ptr())
    assert same_bits(found, heads)
