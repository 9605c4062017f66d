"""What an MLP does between its linear layers, with the same bits for a row wherever it stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

ALIGNMENT = 64  # inner widths are padded to it, so that no row ends in an activation kernel's scalar tail
SERIAL_ELEMENTS = 1 << 15  # torch splits larger elementwise calls among threads, at places that leave scalar tails

Activation = Callable[[Tensor], Tensor]
ACTIVATIONS: Mapping[str, Activation] = {
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu_pytorch_tanh": partial(functional.gelu, approximate="tanh"),
    "relu": functional.relu,
}


def activation_of(name: str, slope: float | None) -> Activation:
    """The one of that name; with a slope it is swish (Ramachandran et al., 2017), of which silu is that of slope 1."""
    return ACTIVATIONS[name] if slope is None else partial(swish, slope=slope)


def swish(x: Tensor, slope: float) -> Tensor:
    return x * torch.sigmoid(slope * x)


def bounded(gate_up: Tensor, limit: float) -> Tensor:
    """Gates up to the limit, and ups between it and its negative, one added: [rows, 2 * inner], as it was.

    Nothing here rounds more than once, so a row's place decides no bits. Where both were zero the gate still is.
    """
    gate, up = gate_up.chunk(2, -1)
    return torch.cat((gate.clamp(max=limit), up.clamp(-limit, limit) + 1), -1)


def gated(gate_up: Tensor, activation: Activation = functional.silu) -> Tensor:
    """activation(gate) * up, [rows, 2 * inner] -> [rows, inner]: the same bits for a row wherever it stands."""
    gate, up = gate_up.chunk(2, -1)
    if gate.device.type != "cpu" or gate.numel() < SERIAL_ELEMENTS:
        return activation(gate) * up
    return activated(gate, activation).mul_(up)


def activated(x: Tensor, activation: Activation) -> Tensor:
    """[rows, inner] -> [rows, inner]: the same bits for a row wherever it stands."""
    at_once = max(1, (SERIAL_ELEMENTS - 1) // x.shape[1])
    if x.device.type != "cpu" or x.shape[0] <= at_once:
        return activation(x)
    return torch.cat([activation(part) for part in torch.split(x, at_once)])
