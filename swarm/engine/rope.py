"""Rotary position embedding: a table of cosines and sines, and the rotation. Knows nothing of attention.

Every entry of the table is computed in a block of fixed shape, so its bits depend on its position only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from swarm.engine.spec import Rope

BLOCK_ROWS = 2048  # positions added to the table at a time


class RopeTable:
    """Cosines and sines in fp32, grown block by block as positions are used."""

    def __init__(self, rope: Rope, head_dim: int, device: torch.device) -> None:
        self.frequencies = inverse_frequencies(rope, head_dim)  # [head_dim / 2]
        self.device = device
        self._cos = torch.empty(0, 1, head_dim, device=device)  # [positions, 1, head_dim]
        self._sin = torch.empty(0, 1, head_dim, device=device)

    def slice(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """For the positions start to stop, [rows, 1, head_dim] each."""
        self._grow(stop)
        return self._cos[start:stop], self._sin[start:stop]

    def gather(self, positions: Sequence[int]) -> tuple[Tensor, Tensor]:
        """For any positions, [rows, 1, head_dim] each."""
        self._grow(max(positions) + 1)
        index = torch.tensor(positions, device=self.device)
        return self._cos.index_select(0, index), self._sin.index_select(0, index)

    def _grow(self, rows: int) -> None:
        while self._cos.shape[0] < rows:
            start = self._cos.shape[0]
            positions = torch.arange(start, start + BLOCK_ROWS, dtype=torch.float32)
            angles = torch.outer(positions, self.frequencies).double()  # [positions, head_dim / 2]
            # The fp32 angle as in the reference, its cosine rounded once: vector and scalar kernels then agree
            cos, sin = angles.cos().float(), angles.sin().float()
            # With the first half negated, `rotate` needs no negation of its own
            block_cos, block_sin = torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)
            self._cos = torch.cat((self._cos, block_cos.unsqueeze(1).to(self.device)))
            self._sin = torch.cat((self._sin, block_sin.unsqueeze(1).to(self.device)))


def inverse_frequencies(rope: Rope, head_dim: int) -> Tensor:
    """Radians per position for each pair, [head_dim / 2]. Llama 3.1 stretches the long wavelengths and blends between."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    frequencies = 1.0 / rope.theta**exponents
    if rope.kind == "default":
        return frequencies
    wavelengths = 2 * math.pi / frequencies
    low, high = rope.low_frequency_factor, rope.high_frequency_factor
    blend = ((rope.original_positions / wavelengths - low) / (high - low)).clamp(0, 1)  # 0: stretched, 1: as it was
    return (1 - blend) * frequencies / rope.factor + blend * frequencies


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (i, i + head_dim / 2) of [rows, heads, head_dim] by its angle, in fp32.

    Multiplications and additions that each round once: the same bits wherever a row lies.
    """
    return x * cos + x.roll(x.shape[-1] // 2, -1) * sin
