"""The gated delta rule: delta.h in Triton. Rows of one session pass one after the other; value channels stand by themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from swarm.kernels.library import ACTIVATIONS
from swarm.kernels.triton import rows
from swarm.kernels.triton.arithmetic import SILU, activated, bf16_bits, exponential, of_bf16, sigmoid, softplus, tree16
from swarm.kernels.triton.launching import ALONE, EXACT, block, power_of_two

LANES = tl.constexpr(16)
LENGTH_EPS = tl.constexpr(1e-6)  # added to the square of a query's or key's length
CHANNELS = 128  # that a program convolves
VALUES = 32  # channels of a state that a program takes rows through


@dataclass(frozen=True, slots=True)
class Recurring:
    """Of one layer: `struct delta`."""

    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    taps: int
    rounded: bool  # what enters the convolution becomes bf16
    norm_eps: float
    weights: Tensor  # [taps, channels]
    rates: Tensor  # [value_heads]
    step_bias: Tensor
    norm: Tensor  # [value_dim]

    @property
    def keys(self) -> int:
        return self.key_heads * self.key_dim

    @property
    def channels(self) -> int:
        return 2 * self.keys + self.value_heads * self.value_dim


@dataclass(frozen=True, slots=True)
class Passages:
    """Rows of one session each, int64 [passages]: the first, how many, and where states lie before and after them."""

    first: Tensor
    count: Tensor
    states: Tensor  # [4, passages]: addresses of window and memory, and of those that are written
    of_rows: Tensor  # int64 [rows]


@triton.jit
def _entered(x, ld_x, window, first, row, channel, there, channels, taps, ROUNDED: tl.constexpr):
    """Row `row` of a passage, counted from its first, as it entered the convolution: those before it stand in the window."""
    before = row + channel * 0 < 0  # a mask is of all channels
    at = (taps - 1 + row) * channels + channel
    own = tl.load(x + (first + row) * ld_x + channel, mask=there & (before == 0), other=0.0)
    if ROUNDED:
        bits = tl.load(window.to(tl.pointer_type(tl.int16)) + at, mask=there & before, other=0)
        own = tl.where(before, of_bf16(bits), of_bf16(bf16_bits(own)))
    else:
        kept = tl.load(window.to(tl.pointer_type(tl.float32)) + at, mask=there & before, other=0.0)
        own = tl.where(before, kept, own)
    return own


@triton.jit
def _convolve(
    x, ld_x, out, weights, windows, firsts, of_rows, channels, taps, ROUNDED: tl.constexpr, CHANNELS: tl.constexpr
):
    number = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    there, passage = channel < channels, tl.load(of_rows + number)
    first, window = tl.load(firsts + passage), tl.load(windows + passage)
    sums = tl.full([CHANNELS], 0.0, tl.float32)
    for tap in range(taps):
        row = number - first + tap - (taps - 1)
        entered = _entered(x, ld_x, window, first, row, channel, there, channels, taps, ROUNDED)
        sums = tl.fma(tl.load(weights + tap * channels + channel, mask=there, other=0.0), entered, sums)
    tl.store(out + number * channels + channel, activated(sums, 0.0, SILU, False), mask=there)


@triton.jit
def _keep(x, ld_x, windows, kept, firsts, counts, channels, taps, ROUNDED: tl.constexpr, CHANNELS: tl.constexpr):
    """The last rows of all that entered, oldest first, so that none is lost before it is read."""
    passage = tl.program_id(0)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    there = channel < channels
    first, count = tl.load(firsts + passage), tl.load(counts + passage)
    window, place = tl.load(windows + passage), tl.load(kept + passage)
    for i in range(taps - 1):
        row = count + i - (taps - 1)
        entered = _entered(x, ld_x, window, first, row, channel, there, channels, taps, ROUNDED)
        if ROUNDED:
            bits = bf16_bits(entered).to(tl.int16)
            tl.store(place.to(tl.pointer_type(tl.int16)) + i * channels + channel, bits, mask=there)
        else:
            tl.store(place.to(tl.pointer_type(tl.float32)) + i * channels + channel, entered, mask=there)


@triton.jit
def _to_length(x, ld_x, dim, key_heads, scale, COLUMNS: tl.constexpr):
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    x += row * ld_x + head * dim
    lane, column = tl.arange(0, LANES), tl.arange(0, COLUMNS)
    squares = tl.full([LANES], 0.0, tl.float32)
    for at in range(0, dim, LANES):
        value = tl.load(x + at + lane, mask=at + lane < dim, other=0.0)
        squares = tl.fma(value, value, squares)
    inverse = tl.div_rn(1.0, tl.sqrt_rn(tree16(squares) + LENGTH_EPS))
    value = tl.load(x + column, mask=column < dim, other=0.0) * inverse
    tl.store(x + column, tl.where(head < key_heads, value * scale, value), mask=column < dim)  # queries come first


@triton.jit
def _gates(x, ld_x, strengths, left, rates, step_bias, heads, HEADS: tl.constexpr):
    row, head = tl.program_id(0).to(tl.int64), tl.arange(0, HEADS)
    there = head < heads
    x += row * ld_x
    tl.store(strengths + row * heads + head, sigmoid(tl.load(x + head, mask=there, other=0.0)), mask=there)
    step = tl.load(x + heads + head, mask=there, other=0.0) + tl.load(step_bias + head, mask=there, other=0.0)
    faded = exponential(tl.load(rates + head, mask=there, other=0.0) * softplus(step))
    tl.store(left + row * heads + head, faded, mask=there)


@triton.jit
def _recur(
    mixed, out, ld_out, strengths, left, memories, kept, firsts, counts,
    channels, keys, value_heads, group, key_dim, value_dim, VALUES: tl.constexpr,
):  # fmt: skip
    passage, head = tl.program_id(0), tl.program_id(1)
    v = tl.program_id(2) * VALUES + tl.arange(0, VALUES)
    there = v < value_dim
    first, count = tl.load(firsts + passage), tl.load(counts + passage)
    start = head.to(tl.int64) * key_dim * value_dim
    before = tl.load(memories + passage).to(tl.pointer_type(tl.float32)) + start + v
    after = tl.load(kept + passage).to(tl.pointer_type(tl.float32)) + start + v
    for row in range(first, first + count):
        query = mixed + row * channels + head // group * key_dim
        key = query + keys
        value = tl.load(mixed + row * channels + 2 * keys + head * value_dim + v, mask=there, other=0.0)
        strength, fading = tl.load(strengths + row * value_heads + head), tl.load(left + row * value_heads + head)
        recalled = tl.full([VALUES], 0.0, tl.float32)
        for k in range(key_dim):
            held = tl.load(before + k * value_dim, mask=there, other=0.0) * fading
            recalled = tl.fma(tl.load(key + k), held, recalled)
        written = (value - recalled) * strength
        answer = tl.full([VALUES], 0.0, tl.float32)
        for k in range(key_dim):
            held = tl.load(before + k * value_dim, mask=there, other=0.0) * fading
            held = tl.fma(tl.load(key + k), written, held)
            answer = tl.fma(tl.load(query + k), held, answer)
            tl.store(after + k * value_dim, held, mask=there)
        tl.store(out + row * ld_out + head * value_dim + v, answer, mask=there)
        before = after


def recur(recurring: Recurring, x: Tensor, passages: Passages, out: Tensor) -> None:
    """Rows as a layer's projection gives them -> [rows, value_heads * value_dim], and states as they are after them."""
    shape, count, channels = recurring, x.shape[0], recurring.channels
    window, memory, next_window, next_memory = passages.states
    mixed = torch.empty(count, channels, device=x.device)
    strengths, left = (torch.empty(count, shape.value_heads, device=x.device) for _ in range(2))
    wide = block(channels, CHANNELS, x.device)
    several, blocks = len(passages.first), triton.cdiv(channels, wide)
    _convolve[(count, blocks)](
        x, x.stride(0), mixed, shape.weights, window, passages.first, passages.of_rows, channels, shape.taps,
        ROUNDED=shape.rounded, CHANNELS=wide, **EXACT,
    )  # fmt: skip
    _keep[(several, blocks)](
        x, x.stride(0), window, next_window, passages.first, passages.count, channels, shape.taps,
        ROUNDED=shape.rounded, CHANNELS=wide, **EXACT,
    )  # fmt: skip
    scale = float(np.float32(1) / np.sqrt(np.float32(shape.key_dim)))
    _to_length[(count, 2 * shape.key_heads)](
        mixed, channels, shape.key_dim, shape.key_heads, scale, COLUMNS=power_of_two(shape.key_dim), **ALONE
    )
    gates = shape.value_heads * shape.value_dim
    _gates[(count,)](
        x[:, channels + gates :], x.stride(0), strengths, left, shape.rates, shape.step_bias, shape.value_heads,
        HEADS=power_of_two(shape.value_heads), **EXACT,
    )  # fmt: skip
    values = block(shape.value_dim, VALUES, x.device)
    _recur[(several, shape.value_heads, triton.cdiv(shape.value_dim, values))](
        mixed, out, out.stride(0), strengths, left, memory, next_memory, passages.first, passages.count,
        channels, shape.keys, shape.value_heads, shape.value_heads // shape.key_heads, shape.key_dim, shape.value_dim,
        VALUES=values, **ALONE,
    )  # fmt: skip
    rows.norm(out, out, shape.norm, None, shape.value_dim, shape.norm_eps, False)
    rows.activate(x[:, channels : channels + gates], out, out, ACTIVATIONS.index("silu"))
