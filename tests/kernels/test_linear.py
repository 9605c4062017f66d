"""Linear layers: exact against numbers worked out in fp64, and the same bits on every path, in any company, with any threads."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from swarm.kernels import GROUP, LANES, Library
from swarm.kernels.library import WEIGHTS, CWeight

FLOATS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SHAPES = [(96, 200), (40, 8), (576, 192), (17, 1000)]  # outputs, inputs
ROWS = 11
WIDE = " wide"
# SHA-256 of what `rows` through `weight` of 96 x 200 come to. Other bits are another standard: docs/NUMERICS.md, and a new number
GOLDEN = {
    "fp32": "c066aa9c7727c99cd3105d5074e40d70928a709ab45fcbb344586e0d77c68490",
    "bf16": "e5bfbd3d8dfa75ff5b659d6ba44f5acea6521d776f1f7f18f0a6826dac750f92",
    "fp16": "41f9ad86b418465b94b807c885406553caf6c2fe08b291fc5aee22cf1b6e9ca2",
    "int8": "f8cf2052fd921b1cbe969b994172d27475ca5fdf89604ec511a56f179f0ef756",
    "int4": "a5f4c251b1f964e0fe9fa3dad19385a72f2ad5506b6520c7467c902f17d482a9",
    "int4+min": "980151692722d9304255b5341310e2e0883173834b1436820054f5c19b5e6194",
    "int8 wide": "dd9efd1bdfdcaa9b30d83b6b18117b0ee8085d75ba24cd8b3a374f5f5f949d10",
    "int4 wide": "0eee340badaf9a1adfd71a10133f03426011adb7cbdf1aae1502dae41ca8f4c2",
    "int4+min wide": "114fde7dada493eed0d76dc4b6ef86ee9b562824b2461787cecd009ffbe6645e",
}

Numbers = NDArray[np.float32]


@dataclass
class Packed:
    """A weight, and what its numbers are."""

    c: CWeight
    exact: NDArray[np.float64]  # [outputs, inputs]
    kept: tuple[object, ...]  # what `c` points to


def pack(kernels: Library, kind: str, weight: Numbers) -> Packed:
    """Quantised to the nearest, where the kind is one of integers. Of a `wide` kind rows become integers of 16 bits."""
    kind, wide = kind.removesuffix(WIDE), kind.endswith(WIDE)
    outputs, inputs = weight.shape
    groups, tiles = -(-inputs // GROUP), -(-outputs // LANES)
    numbers = np.zeros(kernels.packed_bytes(kind, outputs, inputs), np.uint8)
    scales, minima = (np.zeros(tiles * groups * LANES, np.uint16) for _ in range(2))
    if kind in FLOATS:
        stored = torch.from_numpy(weight).to(FLOATS[kind]).contiguous()
        kernels.pack_floats(kind, 0, outputs, inputs, inputs, stored.data_ptr(), numbers.ctypes.data)
        exact = stored.double().numpy()
    else:
        padded = np.zeros((outputs, groups * GROUP), np.float32)
        padded[:, :inputs] = weight
        grouped = padded.reshape(outputs, groups, GROUP)
        low = (
            np.minimum(grouped.min(-1), 0).astype(np.float16)
            if kind == "int4+min"
            else np.zeros((outputs, groups), np.float16)
        )
        most = {"int8": 127, "int4": 7, "int4+min": 15}[kind]
        reach = grouped.max(-1) - low.astype(np.float32) if kind == "int4+min" else np.abs(grouped).max(-1)
        scale = (reach / most).astype(np.float16)
        steps = (grouped - low[..., None].astype(np.float32)) / np.maximum(scale[..., None].astype(np.float32), 1e-9)
        whole = np.clip(np.rint(steps), 0 if kind == "int4+min" else -most - 1, most)
        exact = (whole * scale[..., None].astype(np.float64) + low[..., None]).reshape(outputs, -1)[:, :inputs]
        stored = (whole + (8 if kind == "int4" else 0)).astype(np.int8).view(np.uint8).copy()
    places = (numbers.ctypes.data, scales.ctypes.data, minima.ctypes.data)
    c = CWeight(WEIGHTS.index(kind), outputs, inputs, groups, tiles, 0, wide, *places)
    if kind not in FLOATS:
        halves = (scale, low) if kind == "int4+min" else (scale,)
        whole_bytes = stored.reshape(outputs, groups, GROUP)
        if kind != "int8":
            whole_bytes = whole_bytes[..., :16] | whole_bytes[..., 16:] << 4
        blocks = np.concatenate([half[..., None].view(np.uint8) for half in halves] + [whole_bytes], -1).reshape(
            outputs, -1
        )
        kernels.pack_blocks(c, 0, outputs, blocks.ctypes.data, blocks.shape[1])
    return Packed(c, exact, (numbers, scales, minima))


def product(kernels: Library, packed: Packed, rows: Numbers, bias: Numbers | None = None) -> Numbers:
    out = np.full((len(rows), packed.c.outputs), 7, np.float32)
    shift = None if bias is None else bias.ctypes.data
    kernels.linear(packed.c, rows.ctypes.data, rows.shape[1], len(rows), shift, out.ctypes.data, out.shape[1])
    return out


def numbers_of(*shape: int) -> Numbers:
    """Of whole numbers, since normal draws differ in their last digit between machines."""
    drawn = np.random.default_rng(sum(shape)).integers(-(1 << 15), 1 << 15, shape)
    return drawn.astype(np.float32) / 16384


def hostile(inputs: int) -> Numbers:
    rows = numbers_of(ROWS, inputs)
    rows[1], rows[2], rows[3] = 0, rows[2] * 1e30, rows[3] * 1e-40
    rows[4, 0], rows[5, -1] = np.inf, np.nan
    rows[6, ::3] *= 20
    return rows


def bits(values: Numbers) -> NDArray[np.uint32]:
    """What is no number is one bit pattern: processors differ in it."""
    found = values.view(np.uint32).copy()
    found[np.isnan(values)] = 0x7FC00000
    return found


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", GOLDEN)
def test_one_set_of_bits(kernels: Library, kind: str, shape: tuple[int, int]) -> None:
    packed, rows, bias = pack(kernels, kind, numbers_of(*shape)), hostile(shape[1]), numbers_of(shape[0])
    expected = None
    for path in kernels.paths():
        kernels.choose(path)
        for threads, together in ((1, 1), (1, ROWS), (2, 3), (3, ROWS)):
            kernels.set_threads(threads)
            parts = [product(kernels, packed, rows[at : at + together], bias) for at in range(0, ROWS, together)]
            found = bits(np.concatenate(parts))
            expected = found if expected is None else expected
            assert np.array_equal(found, expected), (path, threads, together)


@pytest.mark.parametrize("kind", GOLDEN)
def test_a_row_of_many_is_the_row_alone(kernels: Library, kind: str) -> None:
    """More rows than are kept at a time, slices of more groups than are opened at a time, tiles that fill no panel."""
    packed, rows = pack(kernels, kind, numbers_of(88, 2600)), numbers_of(103, 2600)
    expected = None
    for path in kernels.paths():
        kernels.choose(path)
        expected = product(kernels, packed, rows) if expected is None else expected
        assert np.array_equal(product(kernels, packed, rows), expected), path
        for row in (0, 50, 102):
            assert np.array_equal(product(kernels, packed, rows[row : row + 1])[0], expected[row]), (path, row)
        for count in (2, 4, 7):
            assert np.array_equal(product(kernels, packed, rows[:count]), expected[:count]), (path, count)


@pytest.mark.parametrize("kind", GOLDEN)
def test_it_is_the_product(kernels: Library, kind: str) -> None:
    packed, rows, bias = pack(kernels, kind, numbers_of(96, 1000)), numbers_of(ROWS, 1000), numbers_of(96)
    found, exact = product(kernels, packed, rows, bias), rows.astype(np.float64) @ packed.exact.T + bias
    error = np.abs(found - exact).max() / np.abs(exact).max()
    # Of integers, what rounding rows to 8 bits costs, or to 16
    assert error < (1e-6 if kind in FLOATS else 5e-5 if kind.endswith(WIDE) else 0.02)


@pytest.mark.parametrize("kind", GOLDEN)
def test_golden_bits(kernels: Library, kind: str) -> None:
    found = bits(product(kernels, pack(kernels, kind, numbers_of(96, 200)), hostile(200), numbers_of(96)))
    assert hashlib.sha256(found.tobytes()).hexdigest() == GOLDEN[kind]


@pytest.mark.parametrize("kind", ["int4", "int4 wide"])
def test_rows_of_what_is_no_number_stay_apart(kernels: Library, kind: str) -> None:
    packed, rows = pack(kernels, kind, numbers_of(96, 200)), hostile(200)
    found = product(kernels, packed, rows)
    assert np.isnan(found[4:6]).all()
    assert np.isfinite(np.delete(found, (4, 5), 0)).all()
    assert not found[1].any()


def test_the_integers_of_wide_rows_are_exact(kernels: Library) -> None:
    """Of a group whose largest number is 32512 the step is 1, so that every whole number is one of its integers; what the
    largest weights and rows come to fits 32 bits."""
    outputs = 16
    weight = np.full((outputs, GROUP), 127, np.float32)
    weight[1:, ::2], weight[2:, ::3] = -127, 5
    packed = pack(kernels, "int8 wide", weight)
    rows = np.random.default_rng(3).integers(-32512, 32513, (40, GROUP)).astype(np.float32)
    rows[:3] = [[32512], [-32512], [127]]
    rows[:, 0] = 32512
    exact = rows.astype(np.int64) @ np.rint(packed.exact).astype(np.int64).T
    for path in kernels.paths():
        kernels.choose(path)
        assert np.array_equal(product(kernels, packed, rows), exact.astype(np.float32)), path
