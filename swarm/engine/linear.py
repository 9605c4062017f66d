"""One linear layer whose decode rows have the same bits alone, in a batch, and in a replay.

Knows nothing of models, caches or sessions: a weight, a bias, and the two shapes in which rows are computed.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from swarm.engine.numerics import Precision


class Linear:
    """`x @ weight.T + bias`, at the two shapes of the numerics contract."""

    def __init__(self, weight: Tensor, bias: Tensor | None, precision: Precision) -> None:
        self.weight = weight.to(precision.dtype).contiguous()  # [out, in]
        self.bias = None if bias is None else bias.to(precision.dtype).contiguous()  # [out]
        self.precision = precision

    def __repr__(self) -> str:
        rows, columns = self.weight.shape
        return f"<Linear {columns}->{rows} {self.precision.name} on {self.weight.device}>"

    @property
    def bytes(self) -> int:
        """Memory held by the weight and the bias."""
        return self.weight.nbytes + (0 if self.bias is None else self.bias.nbytes)

    def decode(self, x: Tensor) -> Tensor:
        """Rows that each stand for themselves, [rows, in] -> [rows, out]: computed in tiles padded with zeros."""
        rows, tile = x.shape[0], self.precision.tile
        if rows == tile:
            return functional.linear(x, self.weight, self.bias)
        padded = x.new_zeros(-(-rows // tile) * tile, x.shape[1])
        padded[:rows] = x
        outputs = [functional.linear(rows_, self.weight, self.bias) for rows_ in padded.split(tile)]
        return (outputs[0] if len(outputs) == 1 else torch.cat(outputs))[:rows]

    def chunk(self, x: Tensor) -> Tensor:
        """Rows computed together in one call at exactly this shape, [rows, in] -> [rows, out]."""
        return functional.linear(x, self.weight, self.bias)
