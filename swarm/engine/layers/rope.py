"""Rotary position embedding: a table of cosines and sines, and the rotation. Knows nothing of attention.

Every entry of the table is computed in a block of fixed shape, so its bits depend on its position only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal, localcontext

import torch
from torch import Tensor
from torch.nn import functional

from swarm.model.rotary import Rope, logarithm

BLOCK_ROWS = 2048  # positions added to the table at a time
POWER_DIGITS = 40  # far beyond what fp32 holds


class RopeTable:
    """Cosines and sines in fp32, grown block by block as positions are used."""

    def __init__(self, rope: Rope, head_dim: int, device: torch.device) -> None:
        turning = inverse_frequencies(rope, int(head_dim * rope.rotated))  # [rotated / 2]
        # Pairs that do not turn have the frequency 0: what `arranged` puts there comes out as it went in
        self.frequencies = functional.pad(turning, (0, head_dim // 2 - turning.shape[0]))  # [head_dim / 2]
        grown = torch.full_like(turning, rope.attention_factor).double()
        self.scale = functional.pad(grown, (0, head_dim // 2 - turning.shape[0]), value=1.0)  # [head_dim / 2]
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
            cos, sin = (angles.cos() * self.scale).float(), (angles.sin() * self.scale).float()
            # With the first half negated, `rotate` needs no negation of its own
            block_cos, block_sin = torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)
            self._cos = torch.cat((self._cos, block_cos.unsqueeze(1).to(self.device)))
            self._sin = torch.cat((self._sin, block_sin.unsqueeze(1).to(self.device)))


def inverse_frequencies(rope: Rope, rotated: int, exact: bool = False) -> Tensor:
    """Radians per position for each pair, [rotated / 2]. Scaled ropes stretch the long wavelengths and blend between.

    `exact`: powers are rounded once, the same on every machine, instead of as torch's kernels have them.
    """
    exponents = torch.arange(0, rotated, 2, dtype=torch.float32) / rotated
    powers = _powers(rope.theta, exponents) if exact else rope.theta**exponents
    frequencies = 1.0 / powers
    if rope.kind in ("default", "dynamic"):
        return frequencies
    if rope.kind == "linear":
        return frequencies / rope.factor
    if rope.kind == "proportional":
        pairs = torch.arange(rotated // 2)
        return torch.where(pairs < int(rope.turning * rotated // 2), frequencies / rope.factor, 0.0)
    if rope.kind == "longrope":
        return 1.0 / (torch.tensor(rope.divisors) * powers)
    if rope.kind == "yarn":
        blend = _yarn_blend(rope, rotated)
        return frequencies / rope.factor * (1 - blend) + frequencies * blend
    wavelengths = 2 * math.pi / frequencies
    low, high = rope.low_frequency_factor, rope.high_frequency_factor
    blend = ((rope.original_positions / wavelengths - low) / (high - low)).clamp(0, 1)  # 0: stretched, 1: as it was
    return (1 - blend) * frequencies / rope.factor + blend * frequencies


def _powers(base: float, exponents: Tensor) -> Tensor:
    with localcontext() as context:
        context.prec = POWER_DIGITS
        return torch.tensor([float(Decimal(base) ** Decimal(exponent)) for exponent in exponents.tolist()])


def _yarn_blend(rope: Rope, rotated: int) -> Tensor:
    """For each pair 0 (stretched) to 1 (as it was), by how often it turns within the original context."""

    def pair_turning(turns: float) -> float:
        return rotated * logarithm(rope.original_positions / (turns * 2 * math.pi)) / (2 * logarithm(rope.theta))

    first, last = pair_turning(rope.fast_turns), pair_turning(rope.slow_turns)
    if rope.whole_pairs:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, rotated - 1)
    if first == last:
        last += 0.001  # a step, not a ramp
    return 1 - ((torch.arange(rotated // 2, dtype=torch.float32) - first) / (last - first)).clamp(0, 1)


def arrangement(rope: Rope, head_dim: int, interleaved: bool) -> Tensor | None:
    """Where `rotate` wants the entries of a head, [head_dim]: each pair half a head apart, those that turn first.

    None: they are there. Queries and keys arranged alike have the products that they had.
    """
    rotated = int(head_dim * rope.rotated)
    if rotated == head_dim and not interleaved:
        return None
    order = torch.arange(head_dim)
    turning, still = order[:rotated], order[rotated:]
    pairs = turning.view(-1, 2).T if interleaved else turning.view(2, -1)
    return torch.cat((pairs, still.view(2, -1)), 1).flatten()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (i, i + head_dim / 2) of [rows, heads, head_dim] by its angle, in fp32.

    Multiplications and additions that each round once: the same bits wherever a row lies.
    """
    return x * cos + x.roll(x.shape[-1] // 2, -1) * sin
