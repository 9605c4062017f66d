"""Weights in llama.cpp's blocks: the numbers that the package gguf reads from them, and the same bits on every path."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Type
from gguf import quants
from numpy.typing import NDArray

from swarm.checkpoint.formats import StoredBlocks
from swarm.checkpoint.formats.packing import Integers, group_of_each
from swarm.checkpoint.gguf.blocks import mxfp4_as_q8_0
from swarm.engine.portable.packed import PackedWeight
from swarm.kernels import Library
from swarm.kernels.library import BLOCKS

OUTPUTS, INPUTS, ROWS = 37, 1024, 7
HALVES = {  # where in a block scales and those of least values lie
    "Q8_0": (0,),
    "Q4_0": (0,),
    "Q4_1": (0, 2),
    "Q5_0": (0,),
    "Q5_1": (0, 2),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
    "IQ4_NL": (0,),
    "IQ4_XS": (0,),
}
# SHA-256 of what `rows` come to through `blocks`: other bits are another standard (docs/NUMERICS.md), and a new number
GOLDEN = {
    "Q5_0": "0ce01b997fb5e7352be175f6be5a984b6a62772ea7345e196c462088f1c94f40",
    "Q5_1": "d3a19cbf7c0855eb01108abd22a424718963c7e616e9cbff6024fe43e78fde21",
    "Q4_K": "b397e4e92cf00ebb05a7a8541f9382d3f3bc93f449c440db8a5d2afd8945575b",
    "Q5_K": "7eab92c22178ebd7bc5ba92de79f89772c015578f97d27b2244d2bd443d29e32",
    "Q6_K": "623bb478fe2df170d9ad749a51f846b68b98e86e0ca27f60103abeb4453dcbf5",
    "IQ4_NL": "009525c01b05cf827412ca786be8953fa030ea5454e7cff381a8877da54dca0f",
    "IQ4_XS": "143b7fc63eb39a9b859b65e2f6d30690673f7a5657e7cab9773dfc73d5fd9571",
    "Q8_0": "e11aa803df197abe4d35e0f561528383cf64056849c7935633bc3aadf501b734",
    "Q4_0": "a7487d6b2ac3f01750798660a482407a9548d5b292d031ef0a9787fad5cbf435",
    "Q4_1": "6526179cb5fdf43b5ff99dbcc5449fd81dfe11682b97e20ecac5f60cefe357fb",
}

SHARING_GOLDEN = {
    "int4+zero": "bf71384fae19176d49cbf604c408515e48e848b1c7d3997527b98d9419fa0ad0",
    "int8+shared": "c5120af347e1e62e701801cee0da157012bdf26a388ea4ac56cbfecc62a5914f",
}

WIDE_GOLDEN = {  # of rows that become integers of 16 bits
    "Q5_0": "bb8ea8b2488e830bfb2c96cbaa40d04e56b2e09b15fd04c365f9ea391d13dc7f",
    "Q5_1": "caf2e6fde309eef5fcb91941bf5923bac20b3b1d326ea32570d88724f0c2c633",
    "Q4_K": "0ccf038c9ae76248fcbef2f4cb8a27c62e7f7bd647eea095db40cea2acfe704d",
    "Q5_K": "a44fcc0e7d5f0c2f790e21f84e879447389759c4cf4d8bae11dca59fe0197012",
    "Q6_K": "ed4c818c95c765fb494973d1068f18a91a3cdd46f896fcb37e08f32ab374b014",
    "IQ4_NL": "b35b63282775a7fd54d11488a26fad6eee768dd56ac0f40aaa2dda63fc483940",
    "IQ4_XS": "5819b9265e4d4e3774c9e57089ba0f05766baf4d881f74008dd3fe76f17e0b7c",
    "Q8_0": "6c9aeb56c9236b3d175574c59f49cf8a283b3ebeb2dcc9a306ce60078234067e",
    "Q4_0": "12c92b08817700c7ea6760bb935b09b1be8ac7d430752305d6d419e6cfaf91aa",
    "Q4_1": "77fc3c7894b109fa4a9ed30fd54fff0df7c4e39900ec89b43378297d320e6e4b",
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


@pytest.mark.parametrize("kind", HALVES)
def test_the_numbers_are_those_of_the_file(kernels: Library, kind: str) -> None:
    """A row of one 127 has a step of one, so that its product is 127 times a weight, rounded once; twice with a least value."""
    found = product(kernels, packed(kind), np.eye(INPUTS, dtype=np.float32) * 127).T
    expected = quants.dequantize(blocks(kind), Type[kind]).astype(np.float64) * 127
    if len(HALVES[kind]) == 1:
        assert np.array_equal(found, expected.astype(np.float32))
    else:
        assert np.abs(found - expected).max() < 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("wide", [False, True], ids=["", "wide"])
@pytest.mark.parametrize("kind", HALVES)
def test_one_set_of_bits(kernels: Library, kind: str, wide: bool) -> None:
    weight, rows = packed(kind), rows_of(ROWS)
    weight.c.wide, golden = wide, (WIDE_GOLDEN if wide else GOLDEN)[kind]
    for path in kernels.paths():
        kernels.choose(path)
        for threads, together in ((1, 1), (1, 2), (2, 3), (3, ROWS)):
            kernels.set_threads(threads)
            parts = [product(kernels, weight, rows[at : at + together]) for at in range(0, ROWS, together)]
            found = hashlib.sha256(np.concatenate(parts).tobytes()).hexdigest()
            assert found == golden, (path, threads, together)


def test_floats_of_four_bits_are_int8_without_being_rounded() -> None:
    blocks_ = np.random.default_rng(17).integers(0, 256, (OUTPUTS, INPUTS // 32, 17), dtype=np.uint8)
    blocks_[..., 0] = np.random.default_rng(5).integers(104, 144, blocks_.shape[:2])
    rows = torch.from_numpy(blocks_.reshape(OUTPUTS, -1))
    widened = mxfp4_as_q8_0(rows)
    assert widened is not None
    assert np.array_equal(quants.dequantize(widened.numpy(), Type.Q8_0), quants.dequantize(rows.numpy(), Type.MXFP4))
    for exponent in (103, 144, 0, 255):
        rows[3, 17], rows[3, 18] = exponent, 1
        assert mxfp4_as_q8_0(rows) is None
    rows[3, 17:34] = 0  # nothing but zeros has no scale to speak of
    assert mxfp4_as_q8_0(rows) is not None


def integers(bits: int, size: int | None) -> Integers:
    """Any numbers, zeros and scales."""
    groups, draws, most = INPUTS // (size or INPUTS), np.random.default_rng(bits), 1 << bits
    numbers = torch.from_numpy(draws.integers(0, most, (INPUTS, OUTPUTS), dtype=np.uint8))
    zeros = (
        torch.from_numpy(draws.integers(0, most, (groups, OUTPUTS), dtype=np.uint8)) if bits == 4 else torch.tensor(128)
    )
    scales = torch.from_numpy((draws.integers(-2048, 2048, (groups, OUTPUTS)) / 4096).astype(np.float16))
    return Integers(numbers, zeros.expand(groups, OUTPUTS), scales, group_of_each(INPUTS, size))


@pytest.mark.parametrize("size", [32, 128, None], ids=str)
@pytest.mark.parametrize("bits", [4, 8])
def test_integers_that_share_scales(kernels: Library, bits: int, size: int | None) -> None:
    """Of GPTQ, AWQ and compressed-tensors."""
    whole = integers(bits, size)
    stored = whole.blocks(bits, size)
    assert stored is not None
    weight = PackedWeight.zeros(BLOCKS[stored.kind], OUTPUTS, INPUTS, stored.shared)
    weight.put_blocks(0, stored)
    found = product(kernels, weight, np.eye(INPUTS, dtype=np.float32) * 127).T
    expected = whole.dequantise().double().numpy() * 127
    assert np.array_equal(found, expected.astype(np.float32))
    seen = set()
    for path in kernels.paths():
        kernels.choose(path)
        for together in (1, ROWS):
            parts = [product(kernels, weight, rows_of(ROWS)[at : at + together]) for at in range(0, ROWS, together)]
            seen.add(hashlib.sha256(np.concatenate(parts).tobytes()).hexdigest())
    assert len(seen) == 1
    assert size != 128 or seen == {SHARING_GOLDEN[stored.kind]}


def test_integers_that_fit_no_blocks() -> None:
    whole = integers(4, 128)
    assert whole.blocks(4, 96) is None
    shuffled = replace(whole, group=whole.group.flip(0))
    assert shuffled.blocks(4, 128) is None
    assert replace(whole, scales=whole.scales.float() + 1e-6).blocks(4, 128) is None
    assert replace(whole, numbers=whole.numbers * 2).blocks(4, 128) is None


@pytest.mark.parametrize("kind", HALVES)
def test_it_takes_no_more_than_the_file(kind: str) -> None:
    weight = PackedWeight.zeros(BLOCKS[kind], 64, INPUTS)
    numbers, size = gguf.GGML_QUANT_SIZES[Type[kind]]
    assert weight.bytes == 64 * INPUTS // numbers * size
