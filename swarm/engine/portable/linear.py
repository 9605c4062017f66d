"""A linear layer whose rows have the same bits alone and in any company, on every CPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from swarm.engine.layers.linear import Linear
from swarm.engine.numerics import Precision, portable_kernels
from swarm.engine.portable.packed import PackedWeight


class PortableLinear(Linear):
    """`x @ weight.T + bias`, fp32 in and out. Its outputs may be of several weights, of a kind each."""

    def __init__(self, parts: Sequence[PackedWeight], bias: Tensor | None, precision: Precision) -> None:
        self.parts = tuple(parts)  # below each other
        self.shape = (sum(part.c.outputs for part in parts), parts[0].c.inputs)  # out, in
        self.precision = precision
        self.device = torch.device("cpu")
        self.kernel = "portable"
        self._kernels = portable_kernels()
        self._bias = bias  # fp32

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None, precision: Precision) -> PortableLinear:
        """Floats, rounded to what weights and biases are in this precision. A packed copy replaces the weight."""
        weight = weight.detach().to(precision.weight_dtype).contiguous()
        bias = None if bias is None else bias.detach().to(precision.weight_dtype).float().contiguous()
        return cls([PackedWeight.of(weight, precision.kind, precision.wide)], bias, precision)

    def __repr__(self) -> str:
        return f"<PortableLinear {self.shape[1]}->{self.shape[0]} {' '.join(part.kind for part in self.parts)}>"

    @property
    def bytes(self) -> int:
        return sum(part.bytes for part in self.parts) + (0 if self._bias is None else self._bias.nbytes)

    @property
    def bias(self) -> Tensor | None:
        return self._bias

    @property
    def bias_pointer(self) -> int | None:
        return None if self._bias is None else self._bias.data_ptr()

    def decode(self, x: Tensor) -> Tensor:
        """fp32 [rows, in] -> [rows, out]"""
        x = x if x.stride(-1) == 1 else x.contiguous()
        rows, outputs, first = x.shape[0], self.shape[0], 0
        out = torch.empty(rows, outputs)
        for part in self.parts:
            bias = None if self.bias_pointer is None else self.bias_pointer + first * out.itemsize
            place = out.data_ptr() + first * out.itemsize
            self._kernels.linear(part.c, x.data_ptr(), x.stride(0), rows, bias, place, outputs)
            first += part.c.outputs
        return out

    chunk = decode
