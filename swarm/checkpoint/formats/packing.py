"""Whole numbers of a few bits in 32-bit words, and what several formats make of them. Pure arithmetic on tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from swarm.checkpoint.formats.layout import ALL_INPUTS, Layout, Part, StoredBlocks

SHORTEST = 32  # inputs of a block


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


@dataclass(frozen=True, slots=True)
class Integers:
    """A matrix of whole numbers, inputs first: a weight is (number - zero) * scale."""

    numbers: Tensor  # [inputs, outputs]
    zeros: Tensor  # [groups, outputs]
    scales: Tensor  # [groups, outputs]
    group: Tensor  # [inputs], of each

    def dequantise(self) -> Tensor:
        """[outputs, inputs]"""
        return affine(self.numbers, self.zeros, self.scales, self.group).T

    def blocks(self, bits: int, size: int | None) -> StoredBlocks | None:
        """Where neighbours form groups that blocks can have, scales are fp16 without being rounded, and numbers less their zeros
        are of so many bits; `size`: inputs of a group, None: all of them."""
        inputs, outputs = self.numbers.shape
        shared = size or inputs
        fitting = size is None or (size % SHORTEST == 0 and (size // SHORTEST).bit_count() == 1 and inputs % size == 0)
        scales = self.scales.half()
        if not fitting or inputs % SHORTEST or not torch.equal(scales.float(), self.scales.float()):
            return None
        if not torch.equal(self.group, group_of_each(inputs, size)):
            return None
        numbers, zeros = self.numbers.T.to(torch.int16), self.zeros.T.to(torch.int16)
        halves = scales.T.contiguous().unsqueeze(-1).view(torch.uint8)  # [outputs, groups, 2]
        if bits == 8:
            less = (numbers.view(outputs, -1, shared) - zeros.unsqueeze(-1)).contiguous()
            if bool((less != less.to(torch.int8)).any()):
                return None
            blocks, kind = [halves, less.to(torch.int8).view(torch.uint8)], "int8+shared"
        else:
            raised = -min(0, int(numbers.min()))  # of numbers with a sign
            numbers, zeros = (numbers + raised).view(outputs, -1, 2, SHORTEST // 2), zeros + raised
            if int(numbers.max()) > 15 or int(zeros.min()) < 0 or int(zeros.max()) > 15:
                return None
            nibbles = (numbers[:, :, 0] | (numbers[:, :, 1] << 4)).to(torch.uint8).view(outputs, -1, shared // 2)
            zeros = zeros.to(torch.uint8).unsqueeze(-1)
            blocks, kind = [halves, zeros, torch.zeros_like(zeros), nibbles], "int4+zero"
        rows = torch.cat(blocks, -1).flatten(1)
        return StoredBlocks(kind, rows, inputs, ALL_INPUTS if size is None else size)


def in_integers(parts: tuple[Part, ...], integers: Callable[..., Integers], bits: int, size: int | None) -> Layout:
    """A layout whose parts are made whole numbers first; these are of so many bits, and groups of so many inputs."""
    return Layout(
        parts,
        lambda *tensors: integers(*tensors).dequantise(),
        blocks=lambda *tensors: integers(*tensors).blocks(bits, size),
        block_kind="int8+shared" if bits == 8 else "int4+zero",
    )


def groups_of(columns: int, size: int | None) -> int:
    """How many groups so many inputs have; None: one for all."""
    return 1 if size is None else -(-columns // size)


def group_of_each(columns: int, size: int | None) -> Tensor:
    """The group of each input, where neighbours share one."""
    return torch.zeros(columns, dtype=torch.int64) if size is None else torch.arange(columns) // size
