"""Muon for the matrices inside the layers, AdamW for the rest, both on float32 masters of a bfloat16 model.

Muon replaces a matrix's averaged gradient by the nearest matrix whose singular values are all near one. A small model
on little text learns from it in markedly fewer steps than from AdamW. Matrices of one shape are stepped as one batch,
because many small products one after another keep a processor waiting.
"""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor, nn


def orthogonalise(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Newton-Schulz iteration on a batch of matrices: keeps their singular vectors, moves the values towards one."""
    a, b, c = 3.4445, -4.7750, 2.0315  # the usual quintic: steep at zero, only near one afterwards
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = (matrices.mT if tall else matrices).bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    out: Tensor = (x.mT if tall else x).float()
    return out


class Optimizer:
    """Holds the float32 masters; `step` moves them and rounds them back into the model."""

    def __init__(self, model: nn.Module, matrix_rate: float, other_rate: float, weight_decay: float) -> None:
        self.matrix_rate, self.other_rate, self.weight_decay = matrix_rate, other_rate, weight_decay
        self.params = dict(model.named_parameters())
        self.masters = {name: param.detach().float().clone() for name, param in self.params.items()}
        self.first = {name: torch.zeros_like(master) for name, master in self.masters.items()}
        shapes: dict[torch.Size, list[str]] = defaultdict(list)
        for name, param in self.params.items():
            if param.ndim == 2 and "embed" not in name:
                shapes[param.shape].append(name)
        self.matrices = list(shapes.values())
        self.others = sorted(set(self.params).difference(*self.matrices))
        self.second = {name: torch.zeros_like(self.masters[name]) for name in self.others}
        self.steps = 0

    @torch.no_grad()
    def step(self, scale: float) -> None:
        """One step at `scale` times the full learning rates, from the gradients the model holds; clears them."""
        self.steps += 1
        for names in self.matrices:
            self._step_matrices(names, scale * self.matrix_rate)
        for name in self.others:
            self._step_other(name, scale * self.other_rate)
        for name, param in self.params.items():
            param.copy_(self.masters[name])
            param.grad = None

    def _gradient(self, name: str) -> Tensor:
        gradient = self.params[name].grad
        assert gradient is not None, f"no gradient for {name}"
        return gradient.float()

    def _step_matrices(self, names: list[str], rate: float, momentum: float = 0.95) -> None:
        ahead = []
        for name in names:
            gradient = self._gradient(name)
            self.first[name].lerp_(gradient, 1 - momentum)
            ahead.append(gradient.lerp(self.first[name], momentum))
        rows, columns = ahead[0].shape
        updates = orthogonalise(torch.stack(ahead)) * max(1.0, rows / columns) ** 0.5
        for name, update in zip(names, updates, strict=True):
            self.masters[name].mul_(1 - rate * self.weight_decay).sub_(update, alpha=rate)

    def _step_other(self, name: str, rate: float, betas: tuple[float, float] = (0.9, 0.98)) -> None:
        gradient = self._gradient(name)
        first = self.first[name].lerp_(gradient, 1 - betas[0]) / (1 - betas[0] ** self.steps)
        second = self.second[name].lerp_(gradient.square(), 1 - betas[1]) / (1 - betas[1] ** self.steps)
        self.masters[name].sub_(first / (second.sqrt() + 1e-10), alpha=rate)

    def state(self) -> dict[str, Tensor]:
        """What an interrupted run goes on from, beside `steps`."""
        parts = {"masters": self.masters, "first": self.first, "second": self.second}
        return {f"{part}/{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor], steps: int) -> None:
        """Raises KeyError for the state of another model."""
        for name, own in self.state().items():
            own.copy_(state[name])
        self.steps = steps
        for name, param in self.params.items():
            param.copy_(self.masters[name])
