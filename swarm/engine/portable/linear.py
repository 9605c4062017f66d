"""A linear layer whose rows have the same bits alone and in any company, on every CPU."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from swarm.engine.layers.linear import Linear
from swarm.engine.numerics import Precision, portable_kernels
from swarm.kernels import GROUP, LANES
from swarm.kernels.library import WEIGHTS, CWeight

QUANTISED_ROWS = 1024  # at a time, so that what is needed besides the result stays small


class PortableLinear(Linear):
    """`x @ weight.T + bias`, fp32 in and out. Takes the weight over: a packed copy in its own precision replaces it."""

    def __init__(self, weight: Tensor, bias: Tensor | None, precision: Precision) -> None:
        self.shape = (weight.shape[0], weight.shape[1])  # out, in
        self.precision = precision
        self.device = weight.device
        self.kernel = "portable"
        self._kernels = portable_kernels()
        self._kind = precision.weights or precision.rows
        self._numbers, self._scales = self._packed(weight.detach().to(precision.dtype).contiguous())
        self._bias = None if bias is None else bias.detach().to(precision.dtype).float().contiguous()
        groups, tiles = -(-self.shape[1] // GROUP), -(-self.shape[0] // LANES)
        places = self._numbers.data_ptr(), self._scales.data_ptr(), None
        self._c = CWeight(WEIGHTS.index(self._kind), *self.shape, groups, tiles, *places)

    def _packed(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The numbers as packing.c lays them, and their scales; none of floats."""
        kernels, kind, (outputs, inputs) = self._kernels, self._kind, self.shape
        numbers = torch.zeros(kernels.packed_bytes(kind, outputs, inputs), dtype=torch.uint8)
        if not self.precision.weights:
            kernels.pack_floats(kind, 0, outputs, inputs, weight.data_ptr(), numbers.data_ptr())
            return numbers, torch.empty(0, dtype=torch.float16)
        groups = -(-inputs // GROUP)
        scales = torch.zeros(-(-outputs // LANES) * LANES * groups, dtype=torch.float16)
        for start in range(0, outputs, QUANTISED_ROWS):
            whole, scale = quantised(weight[start : start + QUANTISED_ROWS], kind)
            places = numbers.data_ptr(), scales.data_ptr(), None
            kernels.pack_integers(kind, start, len(whole), groups, whole.data_ptr(), scale.data_ptr(), None, places)
        return numbers, scales

    def __repr__(self) -> str:
        return f"<PortableLinear {self.shape[1]}->{self.shape[0]} {self._kind}>"

    @property
    def bytes(self) -> int:
        return self._numbers.nbytes + self._scales.nbytes + (0 if self._bias is None else self._bias.nbytes)

    def decode(self, x: Tensor) -> Tensor:
        """fp32 [rows, in] -> [rows, out]"""
        x = x if x.stride(-1) == 1 else x.contiguous()
        outputs = self.shape[0]
        out = torch.empty(x.shape[0], outputs)
        bias = None if self._bias is None else self._bias.data_ptr()
        self._kernels.linear(self._c, x.data_ptr(), x.stride(0), x.shape[0], bias, out.data_ptr(), outputs)
        return out

    chunk = decode


def quantised(weight: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """[rows, inputs] rounded to the nearest of the integers that a group of 32 inputs shares a step of, as
    `Library.pack_integers` takes them: bytes [rows, groups * 32] and fp16 steps [rows, groups].

    int8 reaches from -127 to 127. int4 from -8 to 7: the largest of a group is -8 steps, whichever its sign.
    """
    rows, inputs = weight.shape
    groups = functional.pad(weight.float(), (0, -inputs % GROUP)).view(rows, -1, GROUP)
    peaks = groups.gather(-1, groups.abs().argmax(-1, keepdim=True)).squeeze(-1)
    scales = (peaks.abs() / 127 if kind == "int8" else peaks / -8).half()
    steps = torch.where(scales == 0, 1, scales).float().unsqueeze(-1)
    least, most, zero = (-127, 127, 0) if kind == "int8" else (-8, 7, 8)
    whole = (groups / steps).round().clamp(least, most) * (scales != 0).unsqueeze(-1) + zero
    return whole.to(torch.int8).view(rows, -1).contiguous(), scales.contiguous()
