"""Linear layers on a GPU, of every kind of weight: the bits of plain C."""

from __future__ import annotations

import numpy as np
import pytest
import support.interpreted  # noqa: F401
import torch
from support.numbers import numbers_of, same_bits
from torch import Tensor

from swarm.checkpoint.formats import ALL_INPUTS, StoredBlocks
from swarm.engine.portable.packed import PackedWeight
from swarm.kernels import GROUP, Library
from swarm.kernels.library import BLOCKS
from swarm.kernels.triton.linear import linear
from swarm.kernels.triton.weights import DeviceWeight

OUTPUTS = 17
FLOATS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SIZES = {  # of llama.cpp's blocks: inputs, bytes, and where in them halves lie
    "Q8_0": (32, 34, (0,)),
    "Q4_1": (32, 20, (0, 2)),
    "Q5_0": (32, 22, (0,)),
    "Q5_1": (32, 24, (0, 2)),
    "Q4_K": (256, 144, (0, 2)),
    "Q5_K": (256, 176, (0, 2)),
    "Q6_K": (256, 210, (208,)),
    "IQ4_NL": (32, 18, (0,)),
    "IQ4_XS": (256, 136, (0,)),
}
SHARING = {"int4+zero": (4, 16, (0,)), "int8+shared": (2, 32, (0,))}  # bytes before the numbers, and of a group


def hostile(inputs: int) -> Tensor:
    rows = numbers_of(5, inputs)
    rows[0, 0], rows[1], rows[2] = torch.inf, rows[1] * 1e30, rows[2] * 1e-40
    rows[3, ::3] *= 20
    return rows


def agrees(plain: Library, packed: PackedWeight, rows: Tensor, bias: Tensor | None) -> bool:
    expected = torch.empty(len(rows), packed.c.outputs)
    shift = None if bias is None else bias.data_ptr()
    plain.linear(packed.c, rows.data_ptr(), rows.shape[1], len(rows), shift, expected.data_ptr(), packed.c.outputs)
    found = torch.empty_like(expected)
    places = packed.numbers, packed.scales, packed.minima
    shape = packed.c.outputs, packed.c.inputs, bool(packed.c.wide), packed.c.shift
    linear(DeviceWeight(packed.kind, *shape, *places), rows, bias, found)
    return same_bits(found, expected)


@pytest.mark.parametrize("inputs", [8, 72])
@pytest.mark.parametrize("kind", FLOATS)
def test_floats(plain: Library, kind: str, inputs: int) -> None:
    packed = PackedWeight.of(numbers_of(OUTPUTS, inputs).to(FLOATS[kind]), kind)
    assert agrees(plain, packed, hostile(inputs), numbers_of(OUTPUTS))


@pytest.mark.parametrize("wide", [False, True], ids=["", "wide"])
@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_integers(plain: Library, kind: str, wide: bool) -> None:
    packed = PackedWeight.of(numbers_of(OUTPUTS, 72), kind, wide)
    assert agrees(plain, packed, hostile(72), numbers_of(OUTPUTS))


@pytest.mark.parametrize("kind", SIZES)
def test_blocks(plain: Library, kind: str) -> None:
    numbers, size, halves = SIZES[kind]
    inputs = max(96, numbers)
    packed = PackedWeight.zeros(BLOCKS[kind], OUTPUTS, inputs, wide=kind in ("Q6_K", "Q4_K"))
    drawn = drawn_blocks(inputs // numbers, size, halves)
    packed.put_blocks(0, StoredBlocks(kind, torch.from_numpy(drawn.reshape(OUTPUTS, -1)), inputs))
    assert agrees(plain, packed, hostile(inputs), None)


@pytest.mark.parametrize("shared", [64, ALL_INPUTS])
@pytest.mark.parametrize("kind", SHARING)
def test_scales_that_groups_share(plain: Library, kind: str, shared: int) -> None:
    before, size, halves = SHARING[kind]
    groups = 4 if shared == ALL_INPUTS else shared // GROUP
    packed = PackedWeight.zeros(BLOCKS[kind], OUTPUTS, 128, shared)
    drawn = drawn_blocks(4 // groups, before + size * groups, halves)
    packed.put_blocks(0, StoredBlocks(kind, torch.from_numpy(drawn.reshape(OUTPUTS, -1)), 128))
    assert agrees(plain, packed, hostile(128), None)


def drawn_blocks(count: int, size: int, halves: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """[OUTPUTS, count, size], of any numbers, with scales that are some."""
    draws = np.random.default_rng(size)
    drawn = draws.integers(0, 256, (OUTPUTS, count, size), dtype=np.uint8)
    for start in halves:
        scales = (draws.integers(-2048, 2048, drawn.shape[:2]) / 4096).astype(np.float16)
        drawn[..., start : start + 2] = scales[..., None].view(np.uint8)
    return drawn
