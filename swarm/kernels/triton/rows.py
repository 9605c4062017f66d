"""What is computed of a row by itself: norms, activations, softmax, rotation. [rows, width] of fp32, columns side by side."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from swarm.kernels.triton.arithmetic import activated, exponential, tree16
from swarm.kernels.triton.launching import ALONE, EXACT, power_of_two

LANES = tl.constexpr(16)
COLUMNS = 256  # that a program computes at a time


@triton.jit
def _norm(
    x, ld_x, out, ld_out, weight, bias, width, eps,
    CENTRED: tl.constexpr, WEIGHTED: tl.constexpr, BIASED: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    x += row * ld_x + head * width
    out += row * ld_out + head * width
    lane = tl.arange(0, LANES)
    mean = 0.0
    if CENTRED:
        total = tl.full([LANES], 0.0, tl.float32)
        for at in range(0, width, LANES):
            total = total + tl.load(x + at + lane, mask=at + lane < width, other=0.0)
        mean = tl.div_rn(tree16(total), width * 1.0)
    squares = tl.full([LANES], 0.0, tl.float32)
    for at in range(0, width, LANES):
        value = tl.load(x + at + lane, mask=at + lane < width, other=0.0)
        if CENTRED:
            value = tl.where(at + lane < width, value - mean, 0.0)
        squares = tl.fma(value, value, squares)
    inverse = tl.div_rn(1.0, tl.sqrt_rn(tl.div_rn(tree16(squares), width * 1.0) + eps))
    for at in range(0, width, COLUMNS):
        column = at + tl.arange(0, COLUMNS)
        there = column < width
        value = tl.load(x + column, mask=there, other=0.0)
        if CENTRED:
            value = value - mean
        value = value * inverse
        if WEIGHTED:
            value = value * tl.load(weight + column, mask=there, other=0.0)
        if BIASED:
            value = value + tl.load(bias + column, mask=there, other=0.0)
        tl.store(out + column, value, mask=there)


def norm(
    x: Tensor, out: Tensor, weight: Tensor | None, bias: Tensor | None, width: int, eps: float, centred: bool
) -> None:
    """Each stretch of `width` columns by itself. `out` may be `x`."""
    columns = min(COLUMNS, power_of_two(width))
    _norm[(x.shape[0], x.shape[1] // width)](
        x, x.stride(0), out, out.stride(0), x if weight is None else weight, x if bias is None else bias, width, eps,
        CENTRED=centred, WEIGHTED=weight is not None, BIASED=bias is not None, COLUMNS=columns, **ALONE,
    )  # fmt: skip


@triton.jit
def _activate(
    x, ld_x, other, ld_other, out, ld_out, width, limit, slope, offset,
    KIND: tl.constexpr, GATED: tl.constexpr, LIMITED: tl.constexpr, SLOPED: tl.constexpr, RAISED: tl.constexpr,
    COLUMNS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    there = column < width
    gate = tl.load(x + row * ld_x + column, mask=there, other=0.0)
    if LIMITED:
        gate = tl.where(limit < gate, limit, gate)
    gate = activated(gate, slope, KIND, SLOPED)
    if GATED:
        up = tl.load(other + row * ld_other + column, mask=there, other=0.0)
        if LIMITED:
            up = tl.where(-limit > up, -limit, up)
            up = tl.where(limit < up, limit, up)
        if RAISED:
            up = up + offset
        gate = gate * up
    tl.store(out + row * ld_out + column, gate, mask=there)


def activate(
    x: Tensor, other: Tensor | None, out: Tensor, kind: int, limit: float = 0.0, slope: float = 0.0, offset: float = 0.0
) -> None:
    """`kind` is a number of ACTIVATIONS; times `other` where there is one. A limit, slope or offset of 0 is none."""
    rows, width = out.shape
    columns = min(COLUMNS, power_of_two(width))
    gated = x if other is None else other
    _activate[(rows, triton.cdiv(width, columns))](
        x, x.stride(0), gated, gated.stride(0), out, out.stride(0), width, limit, slope, offset,
        KIND=kind, GATED=other is not None, LIMITED=limit != 0, SLOPED=slope != 0, RAISED=offset != 0, COLUMNS=columns,
        **EXACT,
    )  # fmt: skip


@triton.jit
def _softmax(x, ld_x, out, ld_out, width, COLUMNS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    x += row * ld_x
    out += row * ld_out
    column, lane = tl.arange(0, COLUMNS), tl.arange(0, LANES)
    most = tl.max(tl.load(x + column, mask=column < width, other=float("-inf")), 0)
    total = tl.full([LANES], 0.0, tl.float32)
    for at in range(0, width, LANES):
        there = at + lane < width
        total = total + tl.where(there, exponential(tl.load(x + at + lane, mask=there, other=0.0) - most), 0.0)
    power = exponential(tl.load(x + column, mask=column < width, other=0.0) - most)
    tl.store(out + column, tl.div_rn(power, tree16(total)), mask=column < width)


def softmax(x: Tensor, out: Tensor) -> None:
    """Of each row; `out` may be `x`."""
    _softmax[(x.shape[0],)](x, x.stride(0), out, out.stride(0), x.shape[1], COLUMNS=power_of_two(x.shape[1]), **ALONE)


@triton.jit
def _rotate(x, ld_x, out, ld_out, positions, cos, sin, half, HALF: tl.constexpr):
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    column = tl.arange(0, HALF)
    there = column < half
    place = tl.load(positions + row) * half + column
    x += row * ld_x + head * half * 2 + column
    out += row * ld_out + head * half * 2 + column
    a, b = tl.load(x, mask=there, other=0.0), tl.load(x + half, mask=there, other=0.0)
    c, s = tl.load(cos + place, mask=there, other=0.0), tl.load(sin + place, mask=there, other=0.0)
    tl.store(out, tl.fma(a, c, (b * s) * -1.0), mask=there)
    tl.store(out + half, tl.fma(b, c, a * s), mask=there)


def rotate(x: Tensor, out: Tensor, heads: int, positions: Tensor, cos: Tensor, sin: Tensor) -> None:
    """`heads` heads at the beginning of each row by cosines and sines [positions, half]. `out` may be `x`."""
    half = cos.shape[1]
    _rotate[(x.shape[0], heads)](
        x, x.stride(0), out, out.stride(0), positions, cos, sin, half, HALF=power_of_two(half), **ALONE
    )
