"""What follows attention in a layer: one MLP, or several of which a router chooses some for each row.

Knows nothing of caches, nor of how rows pass: the pass brings the kernels (see swarm.engine.layers.passes).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from swarm.engine.layers.activations import bounded
from swarm.engine.layers.linear import Linear
from swarm.engine.layers.norm import Norm


class Kernels(Protocol):
    """What a pass computes rows with."""

    def linear(self, linear: Linear, x: Tensor) -> Tensor:
        """[rows, in] -> [rows, out]"""

    def gated(self, gate_up: Tensor) -> Tensor:
        """[rows, 2 * inner] -> [rows, inner]"""

    def activated(self, x: Tensor) -> Tensor:
        """[rows, inner] -> [rows, inner]"""

    def each(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """[rows, width] -> [rows, width], entry by entry"""

    def softmax(self, x: Tensor) -> Tensor:
        """[1, width] -> [1, width]"""

    def largest(self, x: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The largest entries of [1, width] and their places, [1, count] each, largest first."""


@dataclass(frozen=True, slots=True)
class Mlp:
    """One for all rows."""

    up: Linear  # hidden -> inner or, gated, 2 * inner: gate, then up; inner is padded to activations.ALIGNMENT
    down: Linear  # inner -> hidden
    gated: bool = True
    limit: float | None = None  # gates and ups are bounded by it

    @property
    def bytes(self) -> int:
        return self.up.bytes + self.down.bytes

    def compute(self, way: Kernels, x: Tensor) -> Tensor:
        """[rows, hidden] -> [rows, hidden]"""
        h = way.linear(self.up, x)
        if self.limit is not None:
            h = bounded(h, self.limit)
        return way.linear(self.down, way.gated(h) if self.gated else way.activated(h))


@dataclass(frozen=True, slots=True)
class Experts:
    """Several, of which each row goes through those that its router gives the largest shares."""

    router: Linear  # hidden -> experts
    experts: Sequence[Mlp]
    used: int
    shares_sum_to_one: bool
    shared: Mlp | None = None  # one more, for all rows
    shared_gate: Linear | None = None  # hidden -> 1: through a sigmoid, that one's share
    scales: Tensor | None = None  # [experts] in fp32, of the shares of those that are chosen

    @property
    def bytes(self) -> int:
        shared = sum(each.bytes for each in (self.shared, self.shared_gate) if each is not None)
        scales = 0 if self.scales is None else self.scales.nbytes
        return self.router.bytes + scales + shared + sum(expert.bytes for expert in self.experts)

    def compute(self, way: Kernels, x: Tensor, routed: Tensor | None = None) -> Tensor:
        """[rows, hidden] -> [rows, hidden]. A row's experts are added in their order, whoever shares them.

        The router reads `routed`, if that is not `x`.
        """
        # Row by row: kernels of softmax and of sums may add in an order that the number of rows decides
        logits = way.linear(self.router, x if routed is None else routed).float()
        routes = [self._route(way, row) for row in torch.split(logits, 1)]
        shares, chosen = torch.cat([each[0] for each in routes]), torch.cat([each[1] for each in routes])
        if self.scales is not None:
            shares = shares * self.scales[chosen]
        result = torch.zeros(x.shape, dtype=torch.float32, device=x.device)
        for number in sorted(set(chosen.flatten().tolist())):
            rows, places = (chosen == number).nonzero(as_tuple=True)
            answers = self.experts[number].compute(way, x.index_select(0, rows)).float()
            result[rows] += answers * shares[rows, places, None]
        if self.shared is not None and self.shared_gate is not None:
            share = way.each(torch.sigmoid, way.linear(self.shared_gate, x).float())
            result += self.shared.compute(way, x).float() * share
        return result.to(x.dtype)

    def _route(self, way: Kernels, row: Tensor) -> tuple[Tensor, Tensor]:
        """Shares and numbers of the chosen experts, [1, used] each."""
        if self.shares_sum_to_one:
            logits, chosen = way.largest(row, self.used)
            return way.softmax(logits.contiguous()), chosen
        return way.largest(way.softmax(row), self.used)


@dataclass(frozen=True, slots=True)
class MlpAndExperts:
    """One for all rows and experts beside it, each between norms of its own; the router has one, too."""

    norm: Norm
    mlp: Mlp
    end_norm: Norm
    router_norm: Norm
    experts_norm: Norm
    experts: Experts
    experts_end_norm: Norm

    @property
    def bytes(self) -> int:
        norms = (self.norm, self.end_norm, self.router_norm, self.experts_norm, self.experts_end_norm)
        return self.mlp.bytes + self.experts.bytes + sum(norm.bytes for norm in norms)

    def compute(self, way: Kernels, x: Tensor) -> Tensor:
        """[rows, hidden] -> [rows, hidden]"""
        common = self.end_norm.compute(self.mlp.compute(way, self.norm.compute(x)))
        chosen = self.experts.compute(way, self.experts_norm.compute(x), self.router_norm.compute(x))
        return common + self.experts_end_norm.compute(chosen)
