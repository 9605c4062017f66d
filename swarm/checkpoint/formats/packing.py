"""Whole numbers of a few bits in 32-bit words, and what several formats make of them. Pure arithmetic on tensors."""

from __future__ import annotations

import torch
from torch import Tensor


def unpack(words: Tensor, bits: int, dim: int) -> Tensor:
    """int32 words to the numbers in them, lowest bits first, as uint8; `bits` divides 32, and `dim` grows 32 / bits times."""
    moved, shifts = words.movedim(dim, -1), range(0, 32, bits)
    numbers = torch.empty(*moved.shape, len(shifts), dtype=torch.uint8)
    for index, shift in enumerate(shifts):  # one at a time: no int32 for each number is ever held
        numbers[..., index] = (moved >> shift) & ((1 << bits) - 1)
    return numbers.flatten(-2).movedim(-1, dim)


def affine(numbers: Tensor, zeros: Tensor, scales: Tensor, group: Tensor) -> Tensor:
    """(number - zero) * scale in fp32, row by row: row i of `numbers` takes row group[i] of zeros and scales."""
    return numbers.float().sub_(zeros.float()[group]).mul_(scales.float()[group])


def groups_of(columns: int, size: int | None) -> int:
    """How many groups so many inputs have; None: one for all."""
    return 1 if size is None else -(-columns // size)


def group_of_each(columns: int, size: int | None) -> Tensor:
    """The group of each input, where neighbours share one."""
    return torch.zeros(columns, dtype=torch.int64) if size is None else torch.arange(columns) // size
