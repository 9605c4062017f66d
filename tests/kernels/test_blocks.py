"""Weights in llama.cpp's blocks: the numbers that the package gguf reads from them, and the same bits on every path."""

from __future__ import annotations

import hashlib

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Type
from gguf import quants
from numpy.typing import NDArray

from swarm.checkpoint.formats import StoredBlocks
from swarm.engine.portable.packed import PackedWeight
from swarm.kernels import Library
from swarm.kernels.library import BLOCKS

OUTPUTS, INPUTS, ROWS = 37, 1024, 7
HALVES = {"Q8_0": (0,), "Q4_0": (0,), "Q4_1": (0, 2)}  # where in a block scales and least values lie
# SHA-256 of what `rows` come to through `blocks`: other bits are another standard (docs/NUMERICS.md), and a new number
GOLDEN = {
    "Q8_0": "e11aa803df197abe4d35e0f561528383cf64056849c7935633bc3aadf501b734",
    "Q4_0": "a7487d6b2ac3f01750798660a482407a9548d5b292d031ef0a9787fad5cbf435",
    "Q4_1": "6526179cb5fdf43b5ff99dbcc5449fd81dfe11682b97e20ecac5f60cefe357fb",
}

Numbers = NDArray[np.float32]


def blocks(kind: str) -> NDArray[np.uint8]:
    """[OUTPUTS, bytes of a row], of any numbers, with scales that are some."""
    numbers, size = gguf.GGML_QUANT_SIZES[Type[kind]]
    draws = np.random.default_rng(size)
    drawn = draws.integers(0, 256, (OUTPUTS, INPUTS // numbers, size), dtype=np.uint8)
    for start in HALVES[kind]:
        halves = (draws.integers(-2048, 2048, drawn.shape[:2]) / 4096).astype(np.float16)
        drawn[..., start : start + 2] = halves[..., None].view(np.uint8)
    return drawn.reshape(OUTPUTS, -1)


def packed(kind: str) -> PackedWeight:
    weight = PackedWeight.zeros(BLOCKS[kind], OUTPUTS, INPUTS)
    stored = torch.from_numpy(blocks(kind))
    for first, count in ((16, 21), (0, 16)):
        weight.put_blocks(first, StoredBlocks(kind, stored[first : first + count], INPUTS))
    return weight


def product(kernels: Library, weight: PackedWeight, rows: Numbers) -> Numbers:
    out = np.full((len(rows), OUTPUTS), 7, np.float32)
    kernels.linear(weight.c, rows.ctypes.data, INPUTS, len(rows), None, out.ctypes.data, OUTPUTS)
    return out


def rows_of(count: int) -> Numbers:
    """Of whole numbers, since normal draws differ in their last digit between machines."""
    return np.random.default_rng(count).integers(-(1 << 15), 1 << 15, (count, INPUTS)).astype(np.float32) / 16384


@pytest.mark.parametrize("kind", BLOCKS)
def test_the_numbers_are_those_of_the_file(kernels: Library, kind: str) -> None:
    """A row of one 127 has a step of one, so that its product is 127 times a weight, rounded once; twice with a least value."""
    found = product(kernels, packed(kind), np.eye(INPUTS, dtype=np.float32) * 127).T
    expected = quants.dequantize(blocks(kind), Type[kind]).astype(np.float64) * 127
    if len(HALVES[kind]) == 1:
        assert np.array_equal(found, expected.astype(np.float32))
    else:
        assert np.abs(found - expected).max() < 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("kind", BLOCKS)
def test_one_set_of_bits(kernels: Library, kind: str) -> None:
    weight, rows = packed(kind), rows_of(ROWS)
    for path in kernels.paths():
        kernels.choose(path)
        for threads, together in ((1, 1), (1, 2), (2, 3), (3, ROWS)):
            kernels.set_threads(threads)
            parts = [product(kernels, weight, rows[at : at + together]) for at in range(0, ROWS, together)]
            found = hashlib.sha256(np.concatenate(parts).tobytes()).hexdigest()
            assert found == GOLDEN[kind], (path, threads, together)


@pytest.mark.parametrize("kind", BLOCKS)
def test_it_takes_no_more_than_the_file(kind: str) -> None:
    weight = PackedWeight.zeros(BLOCKS[kind], 64, INPUTS)
    numbers, size = gguf.GGML_QUANT_SIZES[Type[kind]]
    assert weight.bytes == 64 * INPUTS // numbers * size
