"""Norms by portable kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from swarm.engine.layers.norm import Norm
from swarm.engine.numerics import portable_kernels


class PortableNorm(Norm):
    """As `Norm`, of fp32 rows, with fp32 weights."""

    __slots__ = ()

    def compute(self, x: Tensor) -> Tensor:
        """fp32 [rows, width] -> [rows, width]"""
        x = x if x.stride(-1) == 1 else x.contiguous()
        rows, width = x.shape
        out = torch.empty(rows, width)
        bias = None if self.bias is None else self.bias.data_ptr()
        portable_kernels().norm(
            x.data_ptr(),
            x.stride(0),
            rows,
            width,
            self.weight.data_ptr(),
            bias,
            self.eps,
            self.centred,
            out.data_ptr(),
            width,
        )
        return out
