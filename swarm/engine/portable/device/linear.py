"""Linear layers on a device, made of those that were packed on the CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from swarm.engine.layers.linear import Linear
from swarm.engine.portable.linear import PortableLinear
from swarm.engine.portable.packed import PackedWeight
from swarm.kernels.triton.launching import current
from swarm.kernels.triton.linear import linear
from swarm.kernels.triton.weights import DeviceWeight


class DeviceLinear:
    """A linear layer's weights, below each other, and its bias."""

    def __init__(self, whole: PortableLinear, device: torch.device) -> None:
        self.outputs = whole.shape[0]
        self._parts = [_weight(part, device) for part in whole.parts]
        self._bias = None if whole.bias is None else whole.bias.to(device)

    def into(self, out: Tensor, x: Tensor) -> None:
        """[rows, inputs] -> [rows, outputs]"""
        first = 0
        for part in self._parts:
            own = slice(first, first + part.outputs)
            linear(part, x, None if self._bias is None else self._bias[own], out[:, own])
            first += part.outputs

    def of(self, x: Tensor) -> Tensor:
        out = torch.empty(x.shape[0], self.outputs, device=x.device)
        self.into(out, x)
        return out


def _weight(packed: PackedWeight, device: torch.device) -> DeviceWeight:
    held = (each.to(device) for each in (packed.numbers, packed.scales, packed.minima))
    return DeviceWeight(packed.kind, packed.c.outputs, packed.c.inputs, bool(packed.c.wide), packed.c.shift, *held)


class UploadedLinear(Linear):
    """A layer by itself, outside of programs."""

    def __init__(self, whole: Linear, device: torch.device) -> None:
        assert isinstance(whole, PortableLinear)
        self.shape, self.precision, self.kernel = whole.shape, whole.precision, whole.kernel
        self.device = device
        self._bytes = whole.bytes
        self._held = DeviceLinear(whole, device)

    def __repr__(self) -> str:
        return f"<UploadedLinear {self.shape[1]}->{self.shape[0]} on {self.device}>"

    @property
    def bytes(self) -> int:
        return self._bytes

    def decode(self, x: Tensor) -> Tensor:
        """fp32 [rows, in], wherever they are -> [rows, out]"""
        x = x.to(self.device)
        with current(self.device):
            return self._held.of(x if x.stride(-1) == 1 else x.contiguous())

    chunk = decode
