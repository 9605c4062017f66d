"""From tensors to layers: fused, padded and converted straight into the storage that they are used from.

A `Source` says where tensors come from: a checkpoint whose bytes are verified, or a seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from swarm.engine.linear import Linear
from swarm.engine.manifest import Manifest, Progress
from swarm.engine.model import ACTIVATION_ALIGNMENT, Layer
from swarm.engine.numerics import Precision
from swarm.engine.spec import ModelSpec, Shape
from swarm.engine.weights import Checkpoint

_RANDOM_ELEMENTS = 1 << 20  # drawn once; random weights repeat them, since only speed is measured with those


class Source(Protocol):
    """Where tensors come from."""

    def tensor(self, name: str, shape: Shape) -> Tensor:
        """A tensor of floats of that shape, not to be written to."""


class VerifiedSource:
    """Tensors of a checkpoint, each checked against the manifest of the model when it is read.

    All shapes are compared with the files before the first is read: what a config claims is not believed, nor allocated.
    """

    def __init__(
        self, checkpoint: Checkpoint, manifest: Manifest, shapes: Mapping[str, Shape], progress: Progress | None
    ) -> None:
        self.checkpoint = checkpoint
        self.manifest = manifest
        self.total = sum(checkpoint.check(name, shape) for name, shape in shapes.items())  # bytes, for progress
        self.progress = progress
        self._done = 0

    def tensor(self, name: str, shape: Shape) -> Tensor:
        self._done += self.checkpoint.check(name, shape)
        for stored in self.checkpoint.stored(name, shape):
            self.manifest.verify(self.checkpoint, stored)
        tensor = self.checkpoint.tensor(name, shape)
        if self.progress is not None:
            self.progress(self._done, self.total)
        return tensor


class RandomSource:
    """Random weights, scaled so that rows neither vanish nor explode. For measurements."""

    def __init__(self, seed: int) -> None:
        self._draws = torch.randn(_RANDOM_ELEMENTS, generator=torch.Generator().manual_seed(seed))

    def tensor(self, name: str, shape: Shape) -> Tensor:
        size = math.prod(shape)
        draws = self._draws.to(torch.bfloat16).repeat(-(-size // _RANDOM_ELEMENTS))[:size].view(shape)
        return draws.mul_(shape[-1] ** -0.5) if len(shape) > 1 else draws.mul_(0.1).add_(1)


def build_layer(spec: ModelSpec, layer: int, source: Source, precision: Precision, device: torch.device) -> Layer:
    """One layer, ready to compute. Raises ModelFault naming file and tensor."""
    family, prefix = spec.family, spec.family.layer.format(layer=layer)
    shapes = spec.layer_tensors(layer)

    def norm(module: str) -> Tensor:
        name = f"{prefix}.{module}.weight"
        return source.tensor(name, shapes[name]).to(device=device, dtype=precision.dtype, copy=True)

    def linear(modules: Sequence[str], rows: int, columns: int) -> Linear:
        """Modules below each other, each padded with zeros to `rows` rows; columns padded likewise (0: as they are)."""
        names = [f"{prefix}.{module}" for module in modules]
        heights = [max(rows, shapes[f"{name}.weight"][0]) for name in names]
        columns = max(columns, shapes[f"{names[0]}.weight"][1])
        weight = torch.empty(sum(heights), columns, dtype=precision.dtype, device=device)
        bias = None
        for name, part in zip(names, torch.split(weight, heights), strict=True):
            _fill(part, source.tensor(f"{name}.weight", shapes[f"{name}.weight"]))
        if f"{names[0]}.bias" in shapes:
            bias = torch.empty(sum(heights), dtype=precision.dtype, device=device)
            for name, part in zip(names, torch.split(bias, heights), strict=True):
                _fill(part, source.tensor(f"{name}.bias", shapes[f"{name}.bias"]))
        return Linear(weight, bias, precision)

    inner = padded_inner(spec)
    return Layer(
        attention_norm=norm(family.attention_norm),
        qkv=linear([family.query, family.key, family.value], 0, 0),
        output=linear([family.output], 0, 0),
        mlp_norm=norm(family.mlp_norm),
        gate_up=linear([family.gate, family.up], inner, 0),
        down=linear([family.down], 0, inner),
    )


def padded_inner(spec: ModelSpec) -> int:
    """The MLP's inner width as it is computed. Zeros in, zeros out: the padding adds nothing to any sum."""
    return -(-spec.inner // ACTIVATION_ALIGNMENT) * ACTIVATION_ALIGNMENT


def _fill(target: Tensor, tensor: Tensor) -> None:
    """Copy into the corner of `target`, with zeros beyond."""
    if target.shape != tensor.shape:
        target.zero_()
    target[tuple(slice(size) for size in tensor.shape)] = tensor
