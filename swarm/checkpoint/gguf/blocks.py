"""Blocks of numbers in the types of llama.cpp, each read by itself: a few bits a number, and scales for groups of them.

The arithmetic is the package gguf's, operation by operation, so that the numbers are the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

LEVELS = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)  # of the uneven types
HALVES = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)  # of 4-bit floats, in halves


def _half(blocks: Tensor, start: int) -> Tensor:
    """The fp16 number at that byte of each block, as fp32 [blocks, 1]."""
    return blocks[:, start : start + 2].contiguous().view(torch.float16).float()


def _nibbles(packed: Tensor) -> Tensor:
    """The lower halves of all bytes, then the upper ones."""
    return torch.cat([packed & 15, packed >> 4], -1)


def _bits(packed: Tensor) -> Tensor:
    """The 32 bits of four bytes, lowest first."""
    return ((packed.unsqueeze(-1) >> torch.arange(8, dtype=torch.uint8)) & 1).flatten(1)


def _crumbs(packed: Tensor) -> Tensor:
    """[blocks, 2, 32] -> [blocks, 8, 32]: of each half the lowest two bits of all bytes, then the next, and so on."""
    return torch.stack([(packed >> shift) & 3 for shift in (0, 2, 4, 6)], 2).flatten(1, 2)


def _six_bits(packed: Tensor) -> tuple[Tensor, Tensor]:
    """Of twelve bytes: eight scales and eight scales of least values, in 6 bits each."""
    a, b, c = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = torch.cat([a & 63, (c & 15) | ((a >> 2) & 48)], 1)
    return scales.float(), torch.cat([b & 63, (c >> 4) | ((b >> 2) & 48)], 1).float()


def _q8_0(blocks: Tensor) -> Tensor:
    """A scale, 32 int8."""
    return blocks[:, 2:].contiguous().view(torch.int8).float() * _half(blocks, 0)


def _q4_0(blocks: Tensor) -> Tensor:
    """A scale, 16 bytes: numbers 0-15 in the lower halves, 16-31 in the upper ones, each raised by 8."""
    return (_nibbles(blocks[:, 2:]).float() - 8) * _half(blocks, 0)


def _q4_1(blocks: Tensor) -> Tensor:
    """A scale, a least value, 16 bytes."""
    return _nibbles(blocks[:, 4:]).float() * _half(blocks, 0) + _half(blocks, 2)


def _q5_0(blocks: Tensor) -> Tensor:
    """A scale, the fifth bits, 16 bytes; each number raised by 16."""
    numbers = _nibbles(blocks[:, 6:]) | (_bits(blocks[:, 2:6]) << 4)
    return (numbers.float() - 16) * _half(blocks, 0)


def _q5_1(blocks: Tensor) -> Tensor:
    """A scale, a least value, the fifth bits, 16 bytes."""
    numbers = _nibbles(blocks[:, 8:]) | (_bits(blocks[:, 4:8]) << 4)
    return numbers.float() * _half(blocks, 0) + _half(blocks, 2)


def _q2_k(blocks: Tensor) -> Tensor:
    """Scales and least values of 16 groups in 4 bits each, 64 bytes, the scale of scales and that of least values."""
    numbers = _crumbs(blocks[:, 16:80].reshape(-1, 2, 32)).reshape(-1, 16, 16).float()
    scales = _half(blocks, 80) * (blocks[:, :16] & 15).float()
    least = _half(blocks, 82) * (blocks[:, :16] >> 4).float()
    return (scales.unsqueeze(-1) * numbers - least.unsqueeze(-1)).flatten(1)


def _q3_k(blocks: Tensor) -> Tensor:
    """The third bits, 64 bytes of lower two, scales of 16 groups in 6 bits, their scale; numbers lie from -4 to 3."""
    low = _crumbs(blocks[:, 32:96].reshape(-1, 2, 32))
    high = torch.stack([(blocks[:, :32] >> shift) & 1 for shift in range(8)], 1)
    numbers = (low.float() - 4 * (1 - high.float())).reshape(-1, 16, 16)
    packed, tops = _nibbles(blocks[:, 96:104]), blocks[:, 104:108]
    tops = torch.cat([(tops >> shift) & 3 for shift in (0, 2, 4, 6)], 1)
    scales = _half(blocks, 108) * ((packed | (tops << 4)).float() - 32)
    return (scales.unsqueeze(-1) * numbers).flatten(1)


def _q4_k(blocks: Tensor) -> Tensor:
    """Scales of scales and of least values; both in 6 bits for 8 groups of 32; 128 bytes, groups in pairs by halves."""
    return _in_groups(blocks, _nibbles(blocks[:, 16:].reshape(-1, 4, 32)).view(-1, 8, 32))


def _q5_k(blocks: Tensor) -> Tensor:
    """Likewise, with 32 bytes of fifth bits before the others."""
    high = torch.stack([(blocks[:, 16:48] >> shift) & 1 for shift in range(8)], 1)
    return _in_groups(blocks, _nibbles(blocks[:, 48:].reshape(-1, 4, 32)).view(-1, 8, 32) | (high << 4))


def _in_groups(blocks: Tensor, numbers: Tensor) -> Tensor:
    scales, least = _six_bits(blocks[:, 4:16])
    scaled = numbers.float() * (_half(blocks, 0) * scales).unsqueeze(-1)
    return (scaled - (_half(blocks, 2) * least).unsqueeze(-1)).flatten(1)


def _q6_k(blocks: Tensor) -> Tensor:
    """128 bytes of lower four bits, 64 of upper two, 16 int8 scales for groups of 16, their scale."""
    low = _nibbles(blocks[:, :128].reshape(-1, 2, 64)).view(-1, 8, 32)
    numbers = (low | (_crumbs(blocks[:, 128:192].reshape(-1, 2, 32)) << 4)).float().view(-1, 16, 16) - 32
    scales = _half(blocks, 208) * blocks[:, 192:208].contiguous().view(torch.int8).float()
    return (numbers * scales.unsqueeze(-1)).flatten(1)


def _iq4_nl(blocks: Tensor) -> Tensor:
    """A scale, 16 bytes that choose among uneven levels."""
    return _chosen(LEVELS, _nibbles(blocks[:, 2:])) * _half(blocks, 0)


def _iq4_xs(blocks: Tensor) -> Tensor:
    """A scale, that of 8 groups in 6 bits (upper two, then lower four), 128 bytes that choose among uneven levels."""
    tops = torch.stack([(blocks[:, 2 + place // 4] >> (2 * (place % 4))) & 3 for place in range(8)], 1)
    low = torch.stack([blocks[:, 4:8] & 15, blocks[:, 4:8] >> 4], 2).flatten(1)
    scales = _half(blocks, 0) * ((low | (tops << 4)).float() - 32)
    return (scales.unsqueeze(-1) * _chosen(LEVELS, _nibbles(blocks[:, 8:].reshape(-1, 8, 16)))).flatten(1)


def _mxfp4(blocks: Tensor) -> Tensor:
    """An exponent, 16 bytes of 4-bit floats."""
    exponent = blocks[:, :1].int()
    scale = torch.where(exponent < 2, 0x200000 << exponent.clamp(max=1), (exponent - 1) << 23).view(torch.float32)
    return _chosen(HALVES, _nibbles(blocks[:, 1:])) * scale


def mxfp4_as_q8_0(rows: Tensor) -> Tensor | None:
    """Rows of blocks of 4-bit floats as blocks of int8, which hold the same numbers; None where a scale is no fp16."""
    blocks = rows.reshape(-1, 17)
    numbers = torch.tensor(HALVES, dtype=torch.int8)[_nibbles(blocks[:, 1:]).long()]
    power = blocks[:, :1].int() - 128  # of two, which such halves are scaled by
    some = (numbers != 0).any(1, keepdim=True)
    if bool((some & ((power < -24) | (power > 15))).any()):
        return None
    normal, small = (power + 15).clamp(0, 30) << 10, 1 << (power + 24).clamp(0, 9)  # bits of fp16
    scales = (torch.where(power < -14, small, normal) * some).to(torch.int16)
    return torch.cat([scales.view(torch.uint8), numbers.view(torch.uint8)], 1).view(rows.shape[0], -1)


def _chosen(levels: tuple[int, ...], numbers: Tensor) -> Tensor:
    return torch.tensor(levels, dtype=torch.float32)[numbers.long()]


BLOCKS: Mapping[str, tuple[int, Callable[[Tensor], Tensor]]] = {  # type -> bytes of a block, and how it is read
    "Q4_0": (18, _q4_0),
    "Q4_1": (20, _q4_1),
    "Q5_0": (22, _q5_0),
    "Q5_1": (24, _q5_1),
    "Q8_0": (34, _q8_0),
    "Q2_K": (84, _q2_k),
    "Q3_K": (110, _q3_k),
    "Q4_K": (144, _q4_k),
    "Q5_K": (176, _q5_k),
    "Q6_K": (210, _q6_k),
    "IQ4_NL": (18, _iq4_nl),
    "IQ4_XS": (136, _iq4_xs),
    "MXFP4": (17, _mxfp4),
}
