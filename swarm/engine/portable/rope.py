"""Rotary position embedding by portable kernels: every angle, cosine and sine has one value on every machine."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from swarm.engine.layers.rope import BLOCK_ROWS, inverse_frequencies
from swarm.engine.numerics import portable_kernels
from swarm.model.rotary import Rope


class PortableRopeTable:
    """Cosines and sines in fp32, [positions, head_dim / 2], grown block by block as positions are used."""

    def __init__(self, rope: Rope, head_dim: int) -> None:
        turning = inverse_frequencies(rope, int(head_dim * rope.rotated), exact=True)
        still = head_dim // 2 - turning.shape[0]
        self.frequencies = functional.pad(turning, (0, still))
        grown = torch.full_like(turning, rope.attention_factor).double()
        self.scale = functional.pad(grown, (0, still), value=1.0).contiguous()
        self._cos = self._sin = torch.empty(0, head_dim // 2)

    def reaching(self, position: int) -> tuple[Tensor, Tensor]:
        """Of all positions up to that one at least, [positions, head_dim / 2] each."""
        while self._cos.shape[0] <= position:
            self._grow()
        return self._cos, self._sin

    def _grow(self) -> None:
        start, half = self._cos.shape[0], self.frequencies.shape[0]
        positions = torch.arange(start, start + BLOCK_ROWS, dtype=torch.float32)
        angles = (positions[:, None] * self.frequencies).double().contiguous()  # the fp32 angle, as in the reference
        cos, sin = torch.empty(BLOCK_ROWS, half), torch.empty(BLOCK_ROWS, half)
        portable_kernels().turns(
            angles.data_ptr(), self.scale.data_ptr(), BLOCK_ROWS, half, cos.data_ptr(), sin.data_ptr()
        )
        self._cos, self._sin = torch.cat((self._cos, cos)), torch.cat((self._sin, sin))
