"""Gated delta rule: a layer that keeps one state of all rows, where attention keeps the rows (Yang, Kautz, Hatamizadeh, 2024).

A row's key finds what the state remembers for it; part of the difference from the row's value is written there, and all else
fades a little. A decode row is computed alone, by operations of one shape; a chunk's rows together, in blocks. The pass knows
where the state lies (see swarm.engine.layers.passes).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from swarm.engine.caches.recurrent_state import Memory
from swarm.engine.layers.linear import Linear
from swarm.model.layer_kinds import DeltaShape

BLOCK_ROWS = 64  # of a chunk, that one triangular system solves for
LENGTH_EPS = 1e-6  # queries and keys are taken to length 1; so much is added to the square of their own


class Recurring(Protocol):
    """What a pass computes with."""

    def linear(self, linear: Linear, x: Tensor) -> Tensor:
        """[rows, in] -> [rows, out]"""

    def recur(self, delta: Delta, layer: int, projected: Tensor) -> Tensor:
        """Take [rows, width of the projection] through the layer's states; answer with [rows, value_heads * value_dim]."""


@dataclass(frozen=True, slots=True)
class Rows:
    """What rows bring to the state, in fp32."""

    queries: Tensor  # [rows, value_heads, key_dim]
    keys: Tensor  # [rows, value_heads, key_dim]
    values: Tensor  # [rows, value_heads, value_dim]
    strengths: Tensor  # [rows, value_heads]: the part of the difference that is written
    fading: Tensor  # [rows, value_heads]: the logarithm of what a row leaves of the state


@dataclass(frozen=True, slots=True)
class Delta:
    """Stands in a layer in the place of attention."""

    shape: DeltaShape
    projection: Linear  # hidden -> queries, keys, values, gates, then strengths and steps of the value heads
    taps: Tensor  # of the convolution over rows, [taps, channels], in fp32: the newest row's last
    rates: Tensor  # [value_heads], in fp32: of fading by step, below zero
    step_bias: Tensor  # [value_heads], in fp32
    norm: Tensor  # [value_dim], in fp32: weights by which an answer is scaled when it has been normed
    norm_eps: float
    output: Linear  # value_heads * value_dim -> hidden

    @property
    def bytes(self) -> int:
        held = (self.taps, self.rates, self.step_bias, self.norm)
        return self.projection.bytes + self.output.bytes + sum(each.nbytes for each in held)

    def compute(self, way: Recurring, layer: int, x: Tensor) -> Tensor:
        """[rows, hidden] -> [rows, hidden]"""
        return way.linear(self.output, way.recur(self, layer, way.linear(self.projection, x)))

    def step(self, projected: Tensor, read: Memory, write: Memory) -> Tensor:
        """One row, [1, width] -> [1, value_heads * value_dim]. `read` and `write` may be the same."""
        mixed, gates, strengths, steps = torch.split(projected, self._parts, -1)
        window = torch.cat((read[0], mixed))  # [taps, channels]
        row = self._rows(window, strengths, steps)
        write[0].copy_(window[1:])
        memory = torch.mul(read[1], row.fading.exp().view(-1, 1, 1), out=write[1])
        keys = row.keys.view(-1, 1, self.shape.key_dim)  # [value_heads, 1, key_dim]
        difference = row.values.view(-1, 1, self.shape.value_dim) - keys @ memory
        memory.baddbmm_(keys.transpose(1, 2), difference * row.strengths.view(-1, 1, 1))
        answers = row.queries.view(-1, 1, self.shape.key_dim) @ memory  # [value_heads, 1, value_dim]
        return self._gated(answers.transpose(0, 1), gates)

    def chunk(self, projected: Tensor, read: Memory, write: Memory) -> Tensor:
        """Rows one after the other, [rows, width] -> [rows, value_heads * value_dim]."""
        mixed, gates, strengths, steps = torch.split(projected, self._parts, -1)
        window = torch.cat((read[0], mixed))  # [taps - 1 + rows, channels]
        rows = self._rows(window, strengths, steps)
        write[0].copy_(window[mixed.shape[0] :])
        memory, answers = read[1], []
        for start in range(0, mixed.shape[0], BLOCK_ROWS):
            answer, memory = _block(rows, slice(start, start + BLOCK_ROWS), memory)
            answers.append(answer)
        write[1].copy_(memory)
        return self._gated(torch.cat(answers), gates)

    @property
    def _parts(self) -> list[int]:
        shape = self.shape
        return [shape.channels, shape.values, shape.value_heads, shape.value_heads]

    def _rows(self, window: Tensor, strengths: Tensor, steps: Tensor) -> Rows:
        shape, count = self.shape, strengths.shape[0]
        window = window.float()
        convolved = window[:count] * self.taps[0]
        for tap in range(1, shape.taps):
            convolved = convolved + window[tap : tap + count] * self.taps[tap]
        queries, keys, values = torch.split(functional.silu(convolved), [shape.keys, shape.keys, shape.values], -1)
        queries, keys = (_unit(each.view(count, shape.key_heads, -1)) for each in (queries, keys))
        group = shape.value_heads // shape.key_heads
        return Rows(
            (queries * shape.key_dim**-0.5).repeat_interleave(group, 1),
            keys.repeat_interleave(group, 1),
            values.view(count, shape.value_heads, -1),
            torch.sigmoid(strengths.float()),
            self.rates * functional.softplus(steps.float() + self.step_bias),
        )

    def _gated(self, answers: Tensor, gates: Tensor) -> Tensor:
        """[rows, value_heads, value_dim] in fp32 -> [rows, value_heads * value_dim] as rows are"""
        normed = functional.rms_norm(answers, self.norm.shape, self.norm, self.norm_eps)
        return (normed.flatten(1) * functional.silu(gates.float())).to(gates.dtype)


def _unit(x: Tensor) -> Tensor:
    """Of length 1 in the last dimension."""
    return x * torch.rsqrt((x * x).sum(-1, keepdim=True) + LENGTH_EPS)


def _block(rows: Rows, part: slice, memory: Tensor) -> tuple[Tensor, Tensor]:
    """Answers [rows, value_heads, value_dim] of a block of rows, and the state after it (section 3.3 of the paper)."""
    queries, keys, values, strengths, fading = (
        each[part].transpose(0, 1).contiguous()
        for each in (rows.queries, rows.keys, rows.values, rows.strengths, rows.fading)
    )  # [value_heads, rows, ...]
    # The logarithm of what is left, since the block began: sums of many rows, of which small differences matter
    faded = fading.double().cumsum(-1)
    later = torch.ones(faded.shape[1], faded.shape[1], dtype=torch.bool, device=faded.device).triu(1)
    # [value_heads, rows, rows]
    between = (faded.unsqueeze(2) - faded.unsqueeze(1)).masked_fill(later, -torch.inf).exp().float()
    strong = keys * strengths.unsqueeze(-1)
    # A row's difference depends on those before it in the block: a triangular system gives them all
    system = (strong @ keys.transpose(1, 2)) * between
    since, until = faded.exp().float().unsqueeze(-1), (faded[:, -1:] - faded).exp().float().unsqueeze(-1)
    known = torch.cat((values * strengths.unsqueeze(-1), strong * since), -1)
    solved = torch.linalg.solve_triangular(system, known, upper=False, unitriangular=True)
    own, recalled = torch.split(solved, [values.shape[-1], keys.shape[-1]], -1)
    written = own - recalled @ memory  # [value_heads, rows, value_dim]
    answers = (queries * since) @ memory + (queries @ keys.transpose(1, 2) * between) @ written
    return answers.transpose(0, 1), memory * since[:, -1:] + (keys * until).transpose(1, 2) @ written
