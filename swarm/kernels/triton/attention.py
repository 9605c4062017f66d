"""Attention in blocks of 128 absolute positions, each by itself: products and powers, weighted values, then all blocks in order.

Caches are what swarm/kernels/source/cached.h says; kernels find them by tables of addresses, since sessions have one each.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from swarm.kernels.triton.arithmetic import (
    bf16_bits,
    exponential,
    hyperbolic_tangent,
    integers_of,
    of_bf16,
    sixteen_sums_of_each,
    step_of,
)
from swarm.kernels.triton.launching import EXACT, power_of_two

BLOCK = tl.constexpr(128)
TILE = tl.constexpr(16)
MOST = tl.constexpr(127)
FP32, BF16, INT8 = (tl.constexpr(number) for number in range(3))  # of CACHES
STEP_BYTES = tl.constexpr(4)
SCRATCH_BYTES = 256 << 20  # that what blocks give may take: more rows go one part after the other


@dataclass(frozen=True, slots=True)
class Attending:
    """Of one layer; a softcap of 0 is none."""

    heads: int
    kv_heads: int
    head_dim: int
    cache: int  # of CACHES
    scale: float
    softcap: float
    sinks: Tensor | None  # [heads]


@dataclass(frozen=True, slots=True)
class Seen:
    """What each row sees: the positions first to stop - 1 of the keys and values at two addresses, int64 [rows] each.

    `tiled`: as caches are; else rows of fp32 lie `row_stride` apart, and their heads `head_dim`.
    """

    keys: Tensor
    values: Tensor
    strides: Tensor  # of heads, int64 [rows], in numbers
    first: Tensor
    stop: Tensor
    biases: Tensor | None  # addresses, int64 [rows], of fp32 [heads, stop - first]
    tiled: bool
    row_stride: int
    blocks: int  # that a row sees at most
    keep: tuple[Tensor, ...] = ()  # what addresses point to


@triton.jit
def _numbers(address, KIND: tl.constexpr):
    if KIND == FP32:
        place = address.to(tl.pointer_type(tl.float32))
    elif KIND == BF16:
        place = address.to(tl.pointer_type(tl.int16))
    else:
        place = address.to(tl.pointer_type(tl.int8))
    return place


@triton.jit
def _read(place, there, KIND: tl.constexpr):
    """binary32 of numbers as a cache has them."""
    if KIND == FP32:
        number = tl.load(place, mask=there, other=0.0)
    elif KIND == BF16:
        number = of_bf16(tl.load(place, mask=there, other=0))
    else:
        number = tl.load(place, mask=there, other=0).to(tl.float32)
    return number


@triton.jit
def _write(place, x, there, KIND: tl.constexpr):
    if KIND == FP32:
        tl.store(place, x, mask=there)
    else:
        tl.store(place, bf16_bits(x).to(tl.int16), mask=there)


@triton.jit
def _store(x, ld_x, at_keys, at_values, keys, values, strides, positions, dim, KIND: tl.constexpr, DIM: tl.constexpr):
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    d = tl.arange(0, DIM)
    there = d < dim
    key = tl.load(x + row * ld_x + at_keys + head * dim + d, mask=there, other=0.0)
    value = tl.load(x + row * ld_x + at_values + head * dim + d, mask=there, other=0.0)
    position = tl.load(positions + row)
    lane = position % TILE
    width = dim + STEP_BYTES if KIND == INT8 else dim
    tile = head * tl.load(strides + row) + (position - lane) * width
    to_keys, to_values = _numbers(tl.load(keys + row), KIND) + tile, _numbers(tl.load(values + row), KIND) + tile
    if KIND == INT8:
        step, inverse = step_of(key, MOST)
        tl.store(to_keys + d * TILE + lane, integers_of(key, inverse).to(tl.int8), mask=there)
        tl.store((to_keys + TILE * dim).to(tl.pointer_type(tl.float32)) + lane, step)
        step, inverse = step_of(value, MOST)
        tl.store(to_values + lane * dim + d, integers_of(value, inverse).to(tl.int8), mask=there)
        tl.store((to_values + TILE * dim).to(tl.pointer_type(tl.float32)) + lane, step)
    else:
        _write(to_keys + d * TILE + lane, key, there, KIND)
        _write(to_values + lane * dim + d, value, there, KIND)


def store(attending: Attending, x: Tensor, at: int, seen: Seen, positions: Tensor) -> None:
    """Keys, and values behind them, in columns of x from `at` on, into the rows' caches."""
    wide, dim = attending.kv_heads * attending.head_dim, attending.head_dim
    _store[(x.shape[0], attending.kv_heads)](
        x, x.stride(0), at, at + wide, seen.keys, seen.values, seen.strides, positions, dim,
        KIND=attending.cache, DIM=power_of_two(dim), **EXACT,
    )  # fmt: skip


@triton.jit
def _soften(
    x, ld_x, keys, values, strides, firsts, stops, biases, row_stride, weights, states,
    kv_heads, group, dim, blocks, scale, softcap,
    KIND: tl.constexpr, TILED: tl.constexpr, CAPPED: tl.constexpr, BIASED: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    asking, number = tl.program_id(0).to(tl.int64), tl.program_id(1)
    row, kv_head = asking // kv_heads, asking % kv_heads
    first, stop = tl.load(firsts + row), tl.load(stops + row)
    block = (first // BLOCK + number) * BLOCK
    if block < stop:
        g, place = tl.arange(0, GROUP), tl.arange(0, BLOCK)
        mine, head, p = g < group, kv_head * group + g, block + place
        there = (p >= first) & (p < stop)
        start = kv_head * tl.load(strides + row)
        width = dim + STEP_BYTES if KIND == INT8 else dim
        held = _numbers(tl.load(keys + row), KIND) + start
        if TILED:
            held += p // TILE * (TILE * width)
            at, each = held + p % TILE, TILE + 0
        else:
            at, each = held + p * row_stride, 1 + 0
        asked = x + row * ld_x + head * dim
        products = tl.full([GROUP, BLOCK], 0.0, tl.float32)
        for d in range(dim):
            query = tl.load(asked + d, mask=mine, other=0.0) * scale
            products = tl.fma(_read(at + d * each, there, KIND)[None, :], query[:, None], products)
        if KIND == INT8:
            steps = (held + TILE * dim).to(tl.pointer_type(tl.float32))
            products = products * tl.load(steps + p % TILE, mask=there, other=0.0)[None, :]
        if CAPPED:
            products = hyperbolic_tangent(tl.div_rn(products, softcap)) * softcap
        if BIASED:
            bias = tl.load(biases + row).to(tl.pointer_type(tl.float32)) + head[:, None] * (stop - first)
            products = products + tl.load(bias + (p - first)[None, :], mask=mine[:, None] & there[None, :], other=0.0)
        products = tl.where(there[None, :], products, float("-inf"))
        most = tl.max(products, 1)
        power = exponential(products - most[:, None])
        state = (asking * group + g) * blocks + number
        tl.store(states + state * 2, most, mask=mine)
        tl.store(states + state * 2 + 1, sixteen_sums_of_each(power, GROUP), mask=mine)
        if KIND == INT8:
            held = _numbers(tl.load(values + row), KIND) + start + p // TILE * (TILE * width)
            steps = (held + TILE * dim).to(tl.pointer_type(tl.float32))
            power = power * tl.load(steps + p % TILE, mask=there, other=0.0)[None, :]
        tl.store(weights + state[:, None] * BLOCK + place[None, :], power, mask=mine[:, None])


@triton.jit
def _weigh(
    values, strides, firsts, stops, row_stride, weights, answers, kv_heads, group, dim, blocks,
    KIND: tl.constexpr, TILED: tl.constexpr, GROUP: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    asking, number = tl.program_id(0).to(tl.int64), tl.program_id(1)
    row, kv_head = asking // kv_heads, asking % kv_heads
    first, stop = tl.load(firsts + row), tl.load(stops + row)
    block = (first // BLOCK + number) * BLOCK
    if block < stop:
        g, d = tl.arange(0, GROUP), tl.arange(0, DIM)
        there = d < dim
        held = _numbers(tl.load(values + row), KIND) + kv_head * tl.load(strides + row)
        state = (asking * group + g) * blocks + number
        own = weights + state * BLOCK - block
        sums = tl.full([GROUP, DIM], 0.0, tl.float32)
        for p in range(tl.maximum(first, block), tl.minimum(stop, block + BLOCK)):
            if TILED:
                place = held + p * dim
                if KIND == INT8:
                    place += p // TILE * (TILE * STEP_BYTES)
            else:
                place = held + p * row_stride
            weight = tl.load(own + p, mask=g < group, other=0.0)
            sums = tl.fma(_read(place + d, there, KIND)[None, :], weight[:, None], sums)
        tl.store(answers + state[:, None] * DIM + d[None, :], sums, mask=(g < group)[:, None])


@triton.jit
def _join(
    firsts, stops, states, answers, sinks, out, ld_out, heads, dim, blocks, SUNK: tl.constexpr, DIM: tl.constexpr
):
    query = tl.program_id(0).to(tl.int64)
    row, head = query // heads, query % heads
    first, stop = tl.load(firsts + row), tl.load(stops + row)
    d = tl.arange(0, DIM)
    state = query * blocks
    if SUNK:
        most, total = tl.load(sinks + head), tl.full([], 1.0, tl.float32)
        answer = tl.full([DIM], 0.0, tl.float32)
    else:
        most, total = tl.load(states + state * 2), tl.load(states + state * 2 + 1)
        answer = tl.load(answers + state * DIM + d)
    for number in range(0 if SUNK else 1, (stop - 1) // BLOCK - first // BLOCK + 1):
        place = state + number
        own = tl.load(states + place * 2)
        higher = tl.where(most > own, most, own)
        before, now = exponential(most - higher), exponential(own - higher)
        total = tl.fma(tl.load(states + place * 2 + 1), now, total * before)
        answer = tl.fma(tl.load(answers + place * DIM + d), now, answer * before)
        most = higher
    tl.store(out + row * ld_out + head * dim + d, answer * tl.div_rn(1.0, total), mask=d < dim)


def attend(attending: Attending, x: Tensor, seen: Seen, out: Tensor) -> None:
    """Queries in the first columns of x, [rows, heads * head_dim], to what they are answered."""
    heads, wide = attending.heads, power_of_two(attending.head_dim)
    each = heads * seen.blocks * (BLOCK.value + 2 + wide) * x.itemsize
    most = max(1, SCRATCH_BYTES // each)
    for at in range(0, x.shape[0], most):
        rows = slice(at, at + most)
        _attend_some(attending, x[rows], seen, rows, out[rows], wide)


def _attend_some(attending: Attending, x: Tensor, seen: Seen, rows: slice, out: Tensor, wide: int) -> None:
    count, heads, kv_heads, blocks = x.shape[0], attending.heads, attending.kv_heads, seen.blocks
    dim, group, grid = attending.head_dim, heads // kv_heads, (count * kv_heads, blocks)
    weights, states, answers = (torch.empty(count * heads * blocks, size, device=x.device) for size in (128, 2, wide))
    keys, values, strides = seen.keys[rows], seen.values[rows], seen.strides[rows]
    first, stop = seen.first[rows], seen.stop[rows]
    biases = first if seen.biases is None else seen.biases[rows]
    _soften[grid](
        x, x.stride(0), keys, values, strides, first, stop, biases, seen.row_stride, weights, states,
        kv_heads, group, dim, blocks, attending.scale, attending.softcap,
        KIND=attending.cache, TILED=seen.tiled, CAPPED=attending.softcap != 0, BIASED=seen.biases is not None,
        GROUP=power_of_two(group), **EXACT,
    )  # fmt: skip
    _weigh[grid](
        values, strides, first, stop, seen.row_stride, weights, answers, kv_heads, group, dim, blocks,
        KIND=attending.cache, TILED=seen.tiled, GROUP=power_of_two(group), DIM=wide, **EXACT,
    )  # fmt: skip
    sinks = weights if attending.sinks is None else attending.sinks
    _join[(count * heads,)](
        first, stop, states, answers, sinks, out, out.stride(0), heads, dim, blocks,
        SUNK=attending.sinks is not None, DIM=wide, **EXACT,
    )  # fmt: skip
