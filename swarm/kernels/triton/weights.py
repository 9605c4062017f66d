"""Packed weights on a device: the very bytes that the compiled kernels read (kinds.h, packing.c), and how a kernel reads them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from swarm.kernels.library import WEIGHTS
from swarm.kernels.triton.arithmetic import half_of_bytes

WHOLE = ("int8", "int8+shared")  # a number takes a byte
SHIFTS = {"q4_k": 3, "q5_k": 3, "q6_k": 3, "iq4_xs": 3}  # 2^shift groups have their scales stored together
SCALE_BYTES = {
    "q4_k": 256,
    "q5_k": 256,
    "q6_k": 288,
    "iq4_xs": 128,
    "int4+zero": 48,
}  # of these, of 16 outputs; else 32
EXTRA_BYTES = {"int5": 64, "int5+min": 64, "q5_k": 64, "q6_k": 128}  # of a group, behind its nibbles

FP32, BF16, FP16, INT8, INT4, INT4_MIN, INT5, INT5_MIN, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, INT4_ZERO, INT8_SHARED = (
    tl.constexpr(number) for number in range(len(WEIGHTS))
)


@dataclass(frozen=True, slots=True)
class DeviceWeight:
    """Of [outputs, inputs], in tiles of 16 outputs."""

    kind: str
    outputs: int
    inputs: int
    wide: bool  # rows become integers of 16 bits for it
    shift: int  # of kinds whose groups share scales
    numbers: Tensor  # bytes
    scales: Tensor  # bytes
    minima: Tensor  # fp16

    @property
    def groups(self) -> int:
        return -(-self.inputs // 32)

    @property
    def tiles(self) -> int:
        return -(-self.outputs // 16)

    @property
    def code(self) -> int:
        """The kind's number in portable.h."""
        return WEIGHTS.index(self.kind)

    @property
    def floats(self) -> bool:
        return self.kind in ("fp32", "bf16", "fp16")

    @property
    def scale_shift(self) -> int:
        return self.shift if self.kind in ("int4+zero", "int8+shared") else SHIFTS.get(self.kind, 0)

    @property
    def scale_bytes(self) -> int:
        """Of 16 outputs and the groups whose scales are stored together."""
        return SCALE_BYTES.get(self.kind, 32)

    @property
    def group_bytes(self) -> int:
        """Of 16 outputs and 32 inputs."""
        return 512 if self.kind in WHOLE else 256 + EXTRA_BYTES.get(self.kind, 0)

    def float_numbers(self) -> Tensor:
        """As the kernels take them: fp32, fp16, or two of bf16 at a time, as bits."""
        return self.numbers.view({"fp32": torch.float32, "fp16": torch.float16}.get(self.kind, torch.int32))


@triton.jit
def unpacked(group, k, lane, there, KIND: tl.constexpr):
    """Integers, int8, of inputs k of the outputs in those lanes; `group` points to what a tile has of their group."""
    i, byte = k // 4, lane * 4 + k % 4
    if KIND == INT8 or KIND == INT8_SHARED:
        number = tl.load(group + i * 64 + byte, mask=there, other=128).to(tl.int32) - 128
    else:
        number = (tl.load(group + (i % 4) * 64 + byte, mask=there, other=0).to(tl.int32) >> (i // 4 * 4)) & 15
        if KIND == INT4:
            number = number - 8
        elif KIND == INT5 or KIND == INT5_MIN or KIND == Q5_K:
            high = tl.load(group + 256 + byte, mask=there, other=0).to(tl.int32)
            number = number | (((high >> i) & 1) << 4)
            if KIND == INT5:
                number = number - 16
        elif KIND == Q6_K:
            high = tl.load(group + 256 + (i // 4) * 64 + byte, mask=there, other=0).to(tl.int32)
            number = (number | (((high >> (i % 4 * 2)) & 3) << 4)) - 32
        elif KIND == IQ4_NL or KIND == IQ4_XS:
            number = _level(number)
    return number.to(tl.int8)


@triton.jit
def _level(nibble):
    """What llama.cpp's uneven types say for it."""
    low = tl.where(nibble == 0, -127, tl.where(nibble == 1, -104, tl.where(nibble == 2, -83, -65)))
    below = tl.where(nibble == 4, -49, tl.where(nibble == 5, -35, tl.where(nibble == 6, -22, -10)))
    above = tl.where(nibble == 8, 1, tl.where(nibble == 9, 13, tl.where(nibble == 10, 25, 38)))
    high = tl.where(nibble == 12, 53, tl.where(nibble == 13, 69, tl.where(nibble == 14, 89, 113)))
    return tl.where(nibble < 8, tl.where(nibble < 4, low, below), tl.where(nibble < 12, above, high))


@triton.jit
def _half(place, there):
    low, high = tl.load(place, mask=there, other=0), tl.load(place + 1, mask=there, other=0)
    return half_of_bytes(low, high)


@triton.jit
def _signed(byte):
    return byte.to(tl.int8, bitcast=True).to(tl.float32)


@triton.jit
def scales_of(
    scales, minima, blocks, groups, tile, lane, g, there, KIND: tl.constexpr, SHIFT: tl.constexpr, BYTES: tl.constexpr
):
    """Of group g of outputs: scales, and minima or, of Q6_K, the scales of the second sixteen inputs."""
    block = scales + (tile.to(tl.int64) * blocks + (g >> SHIFT)) * BYTES
    j = g % 8
    scale = _half(block + lane * 2, there)
    second = scale
    if KIND == INT4_MIN or KIND == INT5_MIN:
        second = tl.load(minima + (tile.to(tl.int64) * groups + g) * 16 + lane, mask=there, other=0.0).to(tl.float32)
    elif KIND == Q4_K or KIND == Q5_K:
        low = block + 64 + tl.where(j < 4, j, j + 4) * 16 + lane
        top = block + 64 + tl.where(j < 4, j, j - 4) * 16 + lane
        low_byte, top_byte = tl.load(low, mask=there, other=0), tl.load(top, mask=there, other=0)
        least_byte = tl.load(top + 64, mask=there, other=0)
        steps = tl.where(j < 4, low_byte & 63, (low_byte & 15) | ((top_byte >> 6) << 4))
        least = tl.where(j < 4, least_byte & 63, (low_byte >> 4) | ((least_byte >> 6) << 4))
        second = (_half(block + 32 + lane * 2, there) * least.to(tl.float32)) * -1.0
        scale = scale * steps.to(tl.float32)
    elif KIND == INT4_ZERO:
        second = (scale * _signed(tl.load(block + 32 + lane, mask=there, other=0))) * -1.0
    elif KIND == Q6_K:
        steps = block + 32 + j * 32 + lane
        second = scale * _signed(tl.load(steps + 16, mask=there, other=0))
        scale = scale * _signed(tl.load(steps, mask=there, other=0))
    elif KIND == IQ4_XS:
        top_byte = tl.load(block + 32 + (j // 4) * 16 + lane, mask=there, other=0).to(tl.int32)
        low_byte = tl.load(block + 64 + (j // 2) * 16 + lane, mask=there, other=0).to(tl.int32)
        steps = ((low_byte >> (j % 2 * 4)) & 15) | (((top_byte >> (j % 4 * 2)) & 3) << 4)
        scale = scale * (steps - 32).to(tl.float32)
    return scale, second
