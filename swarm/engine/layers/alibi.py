"""Attention with linear biases: what is added to products of queries and keys, by their distance and for each head.

Press et al., Train Short, Test Long, 2021. Knows nothing of caches, nor of how rows pass.
"""

from __future__ import annotations

import torch
from torch import Tensor

from swarm.model.spec import ModelSpec

BLOCK_ROWS = 2048  # positions added to the table at a time


def slopes(heads: int) -> list[float]:
    """What each position of distance costs. Geometric for powers of two; other numbers of heads take the rest from the
    next power, every other one of its slopes."""
    power = 1 << (heads.bit_length() - 1)
    own = [2.0 ** (-8 * (head + 1) / power) for head in range(power)]
    between = [2.0 ** (-4 * (2 * head + 1) / power) for head in range(heads - power)]
    return own + between


class AlibiTable:
    """Biases in a precision. The bits of one depend on its head and the two positions only.

    Softmax does not see what is added to a whole row of products, so a row's own key has the bias 0, and those near it
    are the most precise.
    """

    def __init__(
        self,
        heads: int,
        dtype: torch.dtype,
        device: torch.device,
        taken_in: torch.dtype = torch.float64,
        scale: float = 1.0,
    ) -> None:
        self.dtype = dtype
        self.scale = scale  # of all biases
        self._slopes = (
            torch.tensor(slopes(heads), dtype=torch.float64, device=device).to(taken_in).unsqueeze(1)
        )  # [heads, 1]
        self._levels = torch.empty(heads, 0, dtype=torch.float64, device=device)  # [heads, positions]

    def row(self, position: int) -> Tensor:
        """For a query there and the keys up to it, [heads, keys]."""
        self._grow(position + 1)
        return (self._levels[:, : position + 1] - self._levels[:, position, None]).to(self.dtype)

    def rows(self, start: int, stop: int, first: int) -> Tensor:
        """For queries from `start` to `stop` and keys from `first` to `stop`, [heads, rows, keys]."""
        self._grow(stop)
        heads = self._levels.shape[0]
        result = torch.empty(heads, stop - start, stop - first, dtype=self.dtype, device=self._levels.device)
        for levels, biases in zip(self._levels, result, strict=True):  # head by head: fp64 takes room
            biases.copy_(levels[first:stop] - levels[start:stop, None])
        return result

    def _grow(self, rows: int) -> None:
        while self._levels.shape[1] < rows:
            start = self._levels.shape[1]
            positions = torch.arange(start, start + BLOCK_ROWS, device=self._levels.device)
            levels = self._slopes * positions.to(self._slopes.dtype)
            self._levels = torch.cat((self._levels, levels.double() * self.scale), 1)


def build_alibi(spec: ModelSpec, dtype: torch.dtype, device: torch.device) -> AlibiTable:
    if not spec.family.alibi_before_scale:
        return AlibiTable(spec.heads, dtype, device)
    return AlibiTable(spec.heads, dtype, device, torch.bfloat16, spec.kinds[0].head_dim ** -0.5)
