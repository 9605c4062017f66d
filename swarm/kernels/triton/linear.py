"""Linear layers: chains of fma for float weights, exact sums of 32 products for integers. Slices and their tree are as the
definition has them; who computes which outputs and rows decides no bits."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from swarm.kernels.triton.arithmetic import integers_of, step_of
from swarm.kernels.triton.launching import EXACT, block, power_of_two
from swarm.kernels.triton.weights import (
    BF16,
    INT4_MIN,
    INT4_ZERO,
    INT5_MIN,
    Q4_K,
    Q5_K,
    Q6_K,
    DeviceWeight,
    scales_of,
    unpacked,
)

SLICES = tl.constexpr(8)
GROUP = tl.constexpr(32)
LANES = tl.constexpr(16)
ROWS = 8  # of float weights, that a program computes
DOT_ROWS = 16  # of integers: the fewest that a dot product of tiles takes
OUTPUTS = 32
RADIX = tl.constexpr(255)
MOST, MOST_WIDE = tl.constexpr(127), tl.constexpr(32512)


@triton.jit
def _beside(x, COUNT: tl.constexpr, ROWS: tl.constexpr, OUTPUTS: tl.constexpr):
    """[COUNT, ROWS, OUTPUTS] -> half as many: those that stand beside each other, added."""
    pairs = tl.permute(tl.reshape(x, [COUNT // 2, 2, ROWS, OUTPUTS]), [0, 2, 3, 1])
    first, second = tl.split(pairs)
    return first + second


@triton.jit
def _two(numbers, i, there, KIND: tl.constexpr):
    """Weights of inputs i and i + 1, an even number of inputs behind those that `numbers` points to."""
    if KIND == BF16:  # they lie beside each other
        both = tl.load(numbers + i // 2 * LANES, mask=there, other=0)
        first, second = (both << 16).to(tl.float32, bitcast=True), (both & -65536).to(tl.float32, bitcast=True)
    else:
        first = tl.load(numbers + i * LANES, mask=there, other=0.0).to(tl.float32)
        second = tl.load(numbers + (i + 1) * LANES, mask=there, other=0.0).to(tl.float32)
    return first, second


@triton.jit
def _floats(
    x, ld_x, out, ld_out, numbers, bias, count, inputs, groups, outputs,
    KIND: tl.constexpr, BIASED: tl.constexpr, ROWS: tl.constexpr, OUTPUTS: tl.constexpr,
):  # fmt: skip
    output = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    piece = tl.arange(0, SLICES)
    first = piece * groups // SLICES * GROUP
    inside = (piece + 1) * groups // SLICES * GROUP - first
    tile, lane = output // LANES, output % LANES
    here, mine = (tile * LANES < outputs)[None, :], (row < count)[None, :]
    start = (tile.to(tl.int64) * groups * GROUP)[None, :] + first[:, None]
    numbers += (start // 2 if KIND == BF16 else start) * LANES + lane[None, :]
    x += row.to(tl.int64)[None, :] * ld_x + first[:, None]
    left = tl.minimum(inside, inputs - first)[:, None]  # behind a row's end stand zeros
    sums = tl.full([SLICES, ROWS, OUTPUTS], 0.0, tl.float32)
    for i in range(0, (groups + SLICES - 1) // SLICES * GROUP, 2):
        live = (i < inside)[:, None]
        one, other = _two(numbers, i, live & here, KIND)
        added = tl.fma(one[:, None, :], tl.load(x + i, mask=mine & (i < left), other=0.0)[:, :, None], sums)
        value = tl.load(x + i + 1, mask=mine & (i + 1 < left), other=0.0)
        added = tl.fma(other[:, None, :], value[:, :, None], added)
        sums = tl.where(live[:, :, None], added, sums)
    sums = _beside(sums, 8, ROWS, OUTPUTS)
    sums = _beside(sums, 4, ROWS, OUTPUTS)
    total = tl.reshape(_beside(sums, 2, ROWS, OUTPUTS), [ROWS, OUTPUTS])
    if BIASED:
        total = total + tl.load(bias + output, mask=output < outputs, other=0.0)[None, :]
    place = row.to(tl.int64)[:, None] * ld_out + output[None, :]
    tl.store(out + place, total, mask=(row < count)[:, None] & (output < outputs)[None, :])


@triton.jit
def _quantise(x, ld_x, low, high, steps, totals, inputs, groups, WIDE: tl.constexpr):
    row, g = tl.program_id(0).to(tl.int64), tl.program_id(1)
    k = g * GROUP + tl.arange(0, GROUP)
    value = tl.load(x + row * ld_x + k, mask=k < inputs, other=0.0)
    place = row * groups + g
    if WIDE:
        step, inverse = step_of(value, MOST_WIDE)
        q = integers_of(value, inverse)
        upper = (q + MOST_WIDE) // RADIX - MOST  # of what is never negative: rounded down
        tl.store(low + place * GROUP + tl.arange(0, GROUP), (q - upper * RADIX).to(tl.int8))
        tl.store(high + place * GROUP + tl.arange(0, GROUP), upper.to(tl.int8))
    else:
        step, inverse = step_of(value, MOST)
        q = integers_of(value, inverse)
        tl.store(low + place * GROUP + tl.arange(0, GROUP), q.to(tl.int8))
    tl.store(steps + place, step)
    tl.store(totals + place, tl.sum(q, 0))


@triton.jit
def _products(q, low, high, there, w, WIDE: tl.constexpr):
    """[rows, 32] by [32, outputs], exact, and then binary32 by one rounding."""
    sums = tl.dot(tl.load(low + q, mask=there, other=0), w, out_dtype=tl.int32)
    if WIDE:
        sums = sums + tl.dot(tl.load(high + q, mask=there, other=0), w, out_dtype=tl.int32) * RADIX
    return sums.to(tl.float32)


@triton.jit
def _integers(
    low, high, steps, totals, out, ld_out, numbers, scales, minima, bias, count, groups, outputs, blocks,
    KIND: tl.constexpr, WIDE: tl.constexpr, SHIFT: tl.constexpr, SCALE_BYTES: tl.constexpr, GROUP_BYTES: tl.constexpr,
    BIASED: tl.constexpr, ROWS: tl.constexpr, OUTPUTS: tl.constexpr,
):  # fmt: skip
    output = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    k = tl.arange(0, GROUP)
    tile, lane = output // LANES, output % LANES
    here, mine = tile * LANES < outputs, row < count
    pair = tl.full([ROWS, OUTPUTS], 0.0, tl.float32)
    quad, half = pair, pair
    for piece in range(SLICES):
        sums = tl.full([ROWS, OUTPUTS], 0.0, tl.float32)
        for g in range(piece * groups // SLICES, (piece + 1) * groups // SLICES):
            group = numbers + (tile.to(tl.int64) * groups + g)[None, :] * GROUP_BYTES
            w = unpacked(group, k[:, None], lane[None, :], here[None, :] & (k < GROUP)[:, None], KIND)
            scale, second = scales_of(scales, minima, blocks, groups, tile, lane, g, here, KIND, SHIFT, SCALE_BYTES)
            place = row.to(tl.int64) * groups + g
            step = tl.load(steps + place, mask=mine, other=0.0)
            q = place[:, None] * GROUP + k[None, :]
            if KIND == Q6_K:
                upper = (k >= GROUP // 2)[None, :]
                products = _products(q, low, high, mine[:, None] & (upper == 0), w, WIDE)
                sums = tl.fma(products, scale[None, :] * step[:, None], sums)
                products = _products(q, low, high, mine[:, None] & upper, w, WIDE)
                sums = tl.fma(products, second[None, :] * step[:, None], sums)
            else:
                products = _products(q, low, high, mine[:, None] & (k < GROUP)[None, :], w, WIDE)
                sums = tl.fma(products, scale[None, :] * step[:, None], sums)
            if KIND == INT4_MIN or KIND == INT5_MIN or KIND == Q4_K or KIND == Q5_K or KIND == INT4_ZERO:
                total = tl.load(totals + place, mask=mine, other=0).to(tl.float32)
                sums = tl.fma(total[:, None], second[None, :] * step[:, None], sums)
        # ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7)), slice by slice
        pair = tl.where(piece % 2 == 0, sums, pair + sums)
        quad = tl.where(piece % 4 == 1, pair, tl.where(piece % 4 == 3, quad + pair, quad))
        half = tl.where(piece == 3, quad, tl.where(piece == 7, half + quad, half))
    if BIASED:
        half = half + tl.load(bias + output, mask=output < outputs, other=0.0)[None, :]
    place = row.to(tl.int64)[:, None] * ld_out + output[None, :]
    tl.store(out + place, half, mask=mine[:, None] & (output < outputs)[None, :])


def linear(weight: DeviceWeight, x: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """[rows, inputs] -> [rows, outputs], fp32; columns lie beside each other."""
    if weight.floats:
        return _of_floats(weight, x, bias, out)
    return _of_integers(weight, x, bias, out)


def _of_floats(weight: DeviceWeight, x: Tensor, bias: Tensor | None, out: Tensor) -> None:
    count, rows = x.shape[0], min(ROWS, power_of_two(x.shape[0]))
    outputs = block(weight.outputs, OUTPUTS, x.device)
    _floats[(triton.cdiv(weight.outputs, outputs), triton.cdiv(count, rows))](
        x, x.stride(0), out, out.stride(0), weight.float_numbers(), x if bias is None else bias,
        count, weight.inputs, weight.groups, weight.outputs,
        KIND=weight.code, BIASED=bias is not None, ROWS=rows, OUTPUTS=outputs, **EXACT,
    )  # fmt: skip


def _of_integers(weight: DeviceWeight, x: Tensor, bias: Tensor | None, out: Tensor) -> None:
    count, groups = x.shape[0], weight.groups
    low = torch.empty(count, groups, 32, dtype=torch.int8, device=x.device)
    high = torch.empty_like(low) if weight.wide else low
    steps = torch.empty(count, groups, device=x.device)
    totals = torch.empty(count, groups, dtype=torch.int32, device=x.device)
    _quantise[(count, groups)](
        x, x.stride(0), low, high, steps, totals, weight.inputs, groups, WIDE=weight.wide, num_warps=1, **EXACT
    )
    blocks = ((groups - 1) >> weight.scale_shift) + 1
    outputs = max(16, block(weight.outputs, OUTPUTS, x.device))
    _integers[(triton.cdiv(weight.outputs, outputs), triton.cdiv(count, DOT_ROWS))](
        low, high, steps, totals, out, out.stride(0), weight.numbers, weight.scales, weight.minima,
        x if bias is None else bias, count, groups, weight.outputs, blocks,
        KIND=weight.code, WIDE=weight.wide, SHIFT=weight.scale_shift, SCALE_BYTES=weight.scale_bytes,
        GROUP_BYTES=weight.group_bytes, BIASED=bias is not None, ROWS=DOT_ROWS, OUTPUTS=outputs, **EXACT,
    )  # fmt: skip
