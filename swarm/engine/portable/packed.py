"""A weight as portable kernels read it: in tiles of 16 outputs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from swarm.checkpoint.formats import ALL_INPUTS, StoredBlocks
from swarm.engine.numerics import portable_kernels
from swarm.engine.portable.room import zeros
from swarm.kernels import GROUP, LANES
from swarm.kernels.library import ALL_GROUPS, BLOCKS, WEIGHTS, CWeight

FLOATS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


@dataclass(frozen=True, slots=True)
class PackedWeight:
    """Of [outputs, inputs], zeros until rows are put in. `c` points into the tensors."""

    kind: str
    numbers: Tensor
    scales: Tensor  # bytes; none of floats
    minima: Tensor  # fp16, of kinds that have them apart
    c: CWeight

    @classmethod
    def zeros(cls, kind: str, outputs: int, inputs: int, shared: int = GROUP, wide: bool = False) -> PackedWeight:
        """`shared`: how many inputs share a scale, where a kind leaves that open; ALL_INPUTS: all of them. `wide`: rows become
        integers of 16 bits for it, if it is one of integers."""
        groups, tiles = -(-inputs // GROUP), -(-outputs // LANES)
        kernels = portable_kernels()
        numbers = zeros(kernels.packed_bytes(kind, outputs, inputs))
        shift = ALL_GROUPS if shared == ALL_INPUTS else (shared // GROUP).bit_length() - 1
        scales = zeros(kernels.scale_bytes(kind, shift, outputs, inputs))
        minima = torch.zeros(tiles * groups * LANES if kernels.has_minima(kind) else 0, dtype=torch.float16)
        places = numbers.data_ptr(), scales.data_ptr(), minima.data_ptr() if len(minima) else None
        c = CWeight(WEIGHTS.index(kind), outputs, inputs, groups, tiles, shift, wide, *places)
        return cls(kind, numbers, scales, minima, c)

    @classmethod
    def of(cls, weight: Tensor, kind: str, wide: bool = False) -> PackedWeight:
        """Floats rounded to that kind."""
        packed = cls.zeros(kind, weight.shape[0], weight.shape[1], wide=wide)
        if kind in FLOATS.values():
            packed.put_floats(0, weight)
        else:
            packed.put_rounded(0, weight)
        return packed

    @property
    def bytes(self) -> int:
        return self.numbers.nbytes + self.scales.nbytes + self.minima.nbytes

    def put_floats(self, first: int, rows: Tensor) -> None:
        """Floats of the kind's own, [rows, columns], as outputs from `first` on; columns that there are not are zeros."""
        rows = rows.contiguous()
        count, columns = rows.shape
        places = rows.data_ptr(), self.numbers.data_ptr()
        portable_kernels().pack_floats(self.kind, first, count, self.c.inputs, columns, *places)

    def put_rounded(self, first: int, rows: Tensor) -> None:
        """Floats, [rows, columns], rounded to the nearest of the integers that a group of 32 inputs shares a step of.

        int8 reaches from -127 to 127. int4 from -8 to 7: the largest of a group is -8 steps, whichever its sign.
        """
        rows = rows.contiguous()
        count, columns = rows.shape
        row_bytes = columns * rows.itemsize
        portable_kernels().pack_rounded(self.c, FLOATS[rows.dtype], first, count, columns, rows.data_ptr(), row_bytes)

    def put_dequantised(self, first: int, blocks: StoredBlocks) -> None:
        """What DEQUANTISED blocks stand for, rounded to the kind: to floats, or to bf16 and then as `put_rounded` does."""
        rows, kind = blocks.rows.contiguous(), BLOCKS[blocks.kind]
        count, row_bytes = rows.shape
        portable_kernels().pack_rounded(self.c, kind, first, count, blocks.columns, rows.data_ptr(), row_bytes)

    def put_blocks(self, first: int, blocks: StoredBlocks) -> None:
        """Blocks of this kind; columns that there are not are zeros."""
        assert BLOCKS[blocks.kind] == self.kind, f"{blocks.kind} is no {self.kind}"
        rows = blocks.rows.contiguous()
        portable_kernels().pack_blocks(self.c, first, rows.shape[0], rows.data_ptr(), rows.shape[1])
