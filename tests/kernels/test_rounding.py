"""Rows rounded to integers, from floats and from blocks: the same weights on every path, and those of the definition."""

from __future__ import annotations

import hashlib
import math

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Type
from kernels.test_blocks import HALVES
from torch import Tensor

from swarm.checkpoint.formats import StoredBlocks
from swarm.checkpoint.gguf.blocks import BLOCKS
from swarm.engine.portable.packed import FLOATS, PackedWeight
from swarm.kernels import Library
from swarm.kernels.library import DEQUANTISED

OUTPUTS, COLUMNS, INPUTS, FIRST = 21, 300, 352, 5
DTYPES = {kind: dtype for dtype, kind in FLOATS.items()}
# SHA-256 of weights that `rows` are rounded to: others would be another standard (docs/NUMERICS.md)
GOLDEN = {
    "int8": "60995bf888f8cf6cb558167d8f1001fe72bd0abebd8fda536089fcaaa883c31f",
    "int4": "7d2e5f110e27ba035f07f242fb4d307cf23b5eda4b235c4c139e2f54683b791a",
}


def rows(dtype: torch.dtype) -> Tensor:
    """[OUTPUTS, COLUMNS] of many sizes, with zeros of both signs, ties, groups of zeros, and what overflows a scale."""
    draws = np.random.default_rng(7)
    numbers = draws.standard_normal((OUTPUTS, COLUMNS)) * np.exp2(draws.integers(-30, 12, (OUTPUTS, 1)))
    numbers[0, ::3], numbers[1, ::2], numbers[2] = 0.0, -0.0, np.sign(numbers[2]) * 3.5
    numbers[3, :64], numbers[4, 40] = 0.0, 1e7 if dtype != torch.float16 else 6e4
    return torch.from_numpy(numbers).to(dtype)


def packed(kernels: Library, kind: str, numbers: Tensor) -> bytes:
    weight = PackedWeight.zeros(kind, FIRST + OUTPUTS, INPUTS)
    weight.put_rounded(FIRST, numbers)
    return weight.numbers.numpy().tobytes() + weight.scales.numpy().tobytes()


@pytest.mark.parametrize("kind", GOLDEN)
def test_rounded_rows_are_golden_on_every_path(kernels: Library, kind: str) -> None:
    found = set()
    for path in kernels.paths():
        kernels.choose(path)
        each = [packed(kernels, kind, rows(dtype)) for dtype in (torch.float32, torch.bfloat16, torch.float16)]
        found.add(hashlib.sha256(b"".join(each)).hexdigest())
    assert found == {GOLDEN[kind]}


@pytest.mark.parametrize("kind", ["int8", "int4"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_group_with_what_is_no_number_is_none_or_rounds_the_others(kernels: Library, kind: str, value: float) -> None:
    """A group's first number says by being none that none is known; elsewhere it counts as nothing."""
    numbers = torch.ones(2, 64)
    numbers[0, 0], numbers[1, 33] = value, value
    weights = []
    for path in kernels.paths():
        kernels.choose(path)
        weight = PackedWeight.zeros(kind, 2, 64)
        weight.put_rounded(0, numbers)
        weights.append((weight.numbers.clone(), weight.scales.view(torch.float16).view(2, 16).clone()))
    scales = weights[0][1].float()
    assert scales[0, 0].isnan() if math.isnan(value) else scales[0, 0].isinf()
    assert scales[1, 1].abs() == (torch.tensor(1 / 127).half() if kind == "int8" else 0.125) or math.isinf(value)
    for same, steps in weights[1:]:
        assert torch.equal(same, weights[0][0])
        assert torch.equal(steps.nan_to_num(), weights[0][1].nan_to_num())


@pytest.mark.parametrize("stored", sorted(DEQUANTISED))
def test_blocks_become_what_their_numbers_do(kernels: Library, stored: str) -> None:
    """As if they had been made floats, and these bf16, and these packed."""
    numbers, size = gguf.GGML_QUANT_SIZES[Type[stored]]
    draws = np.random.default_rng(size)
    drawn = draws.integers(0, 256, (OUTPUTS, 512 // numbers, size), dtype=np.uint8)
    for start in HALVES[stored]:
        halves = (draws.integers(-2048, 2048, drawn.shape[:2]) / 4096).astype(np.float16)
        halves[0, 0], halves[1, 0] = 65504, 6e-8
        drawn[..., start : start + 2] = halves[..., None].view(np.uint8)
    blocks = torch.from_numpy(drawn.reshape(OUTPUTS, -1))
    exact = BLOCKS[stored][1](blocks.view(-1, size)).view(OUTPUTS, 512)
    for kind in ("fp32", "bf16", "fp16", "int8", "int4"):
        expected = PackedWeight.zeros(kind, FIRST + OUTPUTS, 544)
        if kind in DTYPES:
            expected.put_floats(FIRST, exact.to(DTYPES[kind]))
        else:
            expected.put_rounded(FIRST, exact.bfloat16())
        for path in kernels.paths():
            kernels.choose(path)
            weight = PackedWeight.zeros(kind, FIRST + OUTPUTS, 544)
            weight.put_dequantised(FIRST, StoredBlocks(stored, blocks, 512))
            assert torch.equal(weight.numbers, expected.numbers), f"{kind} by {path}"
            assert torch.equal(weight.scales, expected.scales), f"{kind} by {path}"


def test_rows_that_are_no_such_blocks_are_refused(kernels: Library) -> None:
    weight = PackedWeight.zeros("int4", 2, 64)
    with pytest.raises(ValueError, match="do not become int4"):
        weight.put_dequantised(0, StoredBlocks("Q4_0", torch.zeros(2, 18, dtype=torch.uint8), 64))
    with pytest.raises(ValueError, match="do not become bf16"):
        PackedWeight.zeros("bf16", 2, 64).put_rounded(0, torch.zeros(2, 64))
