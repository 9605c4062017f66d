"""Norms of rows: each row for itself, so that its bits do not depend on who stands beside it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Norm:
    """By the root mean square (Zhang and Sennrich, 2019) or, centred, as LayerNorm (Ba et al., 2016)."""

    weight: Tensor  # [width]
    bias: Tensor | None  # [width]; centred norms only
    eps: float
    centred: bool = False  # the mean is taken off first

    @property
    def bytes(self) -> int:
        return self.weight.nbytes + (0 if self.bias is None else self.bias.nbytes)

    def compute(self, x: Tensor) -> Tensor:
        """[rows, width] -> [rows, width]"""
        if self.centred:
            return functional.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)
        return functional.rms_norm(x, self.weight.shape, self.weight, self.eps)

    def compute_heads(self, x: Tensor) -> Tensor:
        """[rows, heads, head_dim], each head for itself or all of a row together, by the weight's width."""
        return self.compute(x.reshape(-1, self.weight.shape[0])).view(x.shape)
