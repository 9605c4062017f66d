"""From a source's tensors to the modules of a layer: fused, padded, converted into the storage they are used from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from swarm.engine.layers.activations import ALIGNMENT
from swarm.engine.layers.linear import Linear
from swarm.engine.layers.mlp import Mlp
from swarm.engine.layers.norm import Norm
from swarm.engine.loading.sources import Source
from swarm.engine.loading.stored import Matrix, split, stored_linear
from swarm.engine.numerics import Precision
from swarm.engine.portable.linear import PortableLinear
from swarm.engine.portable.norm import PortableNorm
from swarm.kernels.library import BLOCKS, DEQUANTISED
from swarm.model.spec import ModelSpec
from swarm.model.tensor_names import Shape, layer_tensors


class LayerParts:
    """Reads the modules of one layer."""

    def __init__(self, spec: ModelSpec, layer: int, source: Source, precision: Precision, device: torch.device) -> None:
        self.prefix = spec.family.layer.format(layer=layer)
        self.shapes = layer_tensors(spec, layer)
        self.spec = spec
        self.source = source
        self.dtype = precision.inner  # of what is no matrix
        self.precision = precision
        self.device = device

    def tensor(self, name: str) -> Tensor:
        name = f"{self.prefix}.{name}"
        tensor = self.source.tensor(name, self.shapes[name])
        return tensor.T if self.spec.family.transposed and tensor.dim() == 2 else tensor

    def distances(self, module: str) -> Tensor:
        """One table for all layers, of which each keeps its own."""
        name = f"{module}.weight"
        return self.source.tensor(name, self.shapes[name]).to(device=self.device, dtype=self.dtype, copy=True)

    def norm(self, module: str | None, order: Tensor | None = None) -> Norm | None:
        """None for a norm that the family does not have."""
        if module is None:
            return None
        norm = build_norm(self.spec, f"{self.prefix}.{module}", self.shapes, self.source, self.precision, self.device)
        return norm if order is None else replace(norm, weight=_arranged(norm.weight, order.to(self.device)))

    def sinks(self, kv_heads: int) -> Tensor | None:
        """[kv_heads, heads / kv_heads], in the precision of softmaxes; None where the family has none."""
        name = f"{self.prefix}.{self.spec.family.sinks}"
        if name not in self.shapes:
            return None
        sinks = self.source.tensor(name, self.shapes[name])
        return sinks.to(device=self.device, dtype=torch.float32, copy=True).view(kv_heads, -1)

    def unit_norm(self, width: int) -> Norm:
        """By the root mean square alone."""
        return norm_of(self.precision)(
            torch.ones(width, dtype=self.dtype, device=self.device), None, self.spec.norm_eps
        )

    def numbers(self, name: str, dtype: torch.dtype) -> Tensor:
        """A tensor as it is stored."""
        return self.tensor(name).to(device=self.device, dtype=dtype, copy=True)

    def router_norm(self, name: str) -> Norm:
        """By the root mean square; its weight is what is stored over the root of the width."""
        weight = self.tensor(name).float() * self.spec.hidden**-0.5
        return norm_of(self.precision)(weight.to(device=self.device, dtype=self.dtype), None, self.spec.norm_eps)

    def mlp(self, gate_up: list[str], down: str, inner: int, hidden: int) -> Mlp:
        width = padded(inner)
        return Mlp(
            self.linear(gate_up, [inner, inner], [width, width], hidden),
            self.linear([down], [hidden], [hidden], width),
            limit=self.spec.gate_limit,
        )

    def plain_mlp(self, up: str, down: str, inner: int, hidden: int) -> Mlp:
        width = padded(inner)
        return Mlp(
            self.linear([up], [inner], [width], hidden), self.linear([down], [hidden], [hidden], width), gated=False
        )

    def linear(
        self,
        modules: Sequence[str],
        parts: list[int],
        heights: list[int],
        columns: int,
        rows: Tensor | None = None,
        floats: bool = False,
    ) -> Linear:
        """Modules below each other. Their parts of so many rows come to stand in heights, padded with zeros.

        Columns are padded likewise. `rows` says which of these rows come to stand where. `floats`: whatever the precision.
        """
        if self.precision.portable:
            return self._portable(modules, parts, heights, columns, rows, floats)
        precision = self.precision.floats if floats else self.precision
        weight = torch.empty(sum(heights), columns, dtype=precision.weight_dtype, device=self.device)
        self._fill(weight, modules, "weight", parts, heights)
        bias = None
        if f"{self.prefix}.{modules[0]}.bias" in self.shapes:
            bias = torch.empty(sum(heights), dtype=precision.weight_dtype, device=self.device)
            self._fill(bias, modules, "bias", parts, heights)
        if rows is not None:
            rows = rows.to(self.device)
            weight, bias = weight.index_select(0, rows), None if bias is None else bias.index_select(0, rows)
        return build_linear(weight, bias, precision)

    def _portable(
        self,
        modules: Sequence[str],
        parts: list[int],
        heights: list[int],
        columns: int,
        rows: Tensor | None,
        floats: bool,
    ) -> Linear:
        precision = self.precision.floats if floats and not self.precision.stored else self.precision
        matrices = [self._matrix(f"{self.prefix}.{module}.weight", precision, floats) for module in modules]
        if len(modules) == 1 and len(parts) > 1:
            matrices = split(matrices[0], parts)
        bias = None
        if f"{self.prefix}.{modules[0]}.bias" in self.shapes:
            bias = torch.empty(sum(heights), dtype=torch.float32 if precision.stored else precision.weight_dtype)
            self._fill(bias, modules, "bias", parts, heights)
            bias = (bias if rows is None else bias.index_select(0, rows)).float()
        return stored_linear(matrices, heights, columns, rows, bias, precision)

    def _matrix(self, name: str, precision: Precision, floats: bool) -> Matrix:
        turned = self.spec.family.transposed
        matrix = matrix_of(self.source, name, self.shapes[name], precision, floats=floats or turned)
        return matrix.T if turned and isinstance(matrix, Tensor) else matrix

    def _fill(self, whole: Tensor, modules: Sequence[str], kind: str, parts: list[int], heights: list[int]) -> None:
        targets = list(torch.split(whole, heights))
        if len(modules) == 1 and len(parts) > 1:
            for target, tensor in zip(targets, torch.split(self.tensor(f"{modules[0]}.{kind}"), parts), strict=True):
                _fill(target, tensor)
        else:
            for target, module in zip(targets, modules, strict=True):
                _fill(target, self.tensor(f"{module}.{kind}"))


def matrix_of(source: Source, name: str, shape: Shape, precision: Precision, floats: bool = False) -> Matrix:
    """As its file holds it, where kernels take or round it so; else as floats. Raises ModelFault naming the tensor.

    `floats`: where the precision is as stored, of that precision if they have to be made.
    """
    stored = source.as_stored(name, shape, BLOCKS if precision.stored else DEQUANTISED)
    if stored is not None and not (precision.stored and floats and not isinstance(stored, Tensor)):
        return stored
    tensor = source.tensor(name, shape)
    return tensor.to(precision.dtype) if precision.stored else tensor


def build_linear(weight: Tensor, bias: Tensor | None, precision: Precision) -> Linear:
    """Takes the weight over."""
    return PortableLinear.of(weight, bias, precision) if precision.portable else Linear(weight, bias, precision)


def norm_of(precision: Precision) -> type[Norm]:
    return PortableNorm if precision.portable else Norm


def build_norm(
    spec: ModelSpec,
    module: str,
    shapes: Mapping[str, Shape],
    source: Source,
    precision: Precision,
    device: torch.device,
) -> Norm:
    """A norm as it is computed with: its weight is what is stored, or what is stored is the difference from that."""
    weight, bias = torch.ones(spec.hidden), None  # of norms that do not scale
    dtype, made = precision.inner, norm_of(precision)
    if spec.family.norm_weight:
        weight = source.tensor(f"{module}.weight", shapes[f"{module}.weight"])
    if spec.family.norm_offset:
        weight = weight.float() + spec.family.norm_offset
    if spec.family.norm_bias:
        bias = source.tensor(f"{module}.bias", shapes[f"{module}.bias"]).to(device=device, dtype=dtype, copy=True)
    return made(weight.to(device=device, dtype=dtype, copy=True), bias, spec.norm_eps, spec.family.centred_norms)


def _arranged(rows: Tensor, order: Tensor) -> Tensor:
    """Entries of several heads, each head's in that order."""
    return rows.view(-1, order.shape[0]).index_select(1, order).view(rows.shape)


def padded(inner: int) -> int:
    """An MLP's inner width as it is computed. Zeros in, zeros out: the padding adds nothing to any sum."""
    return -(-inner // ALIGNMENT) * ALIGNMENT


def _fill(target: Tensor, tensor: Tensor) -> None:
    """Copy into the corner of `target`, with zeros beyond."""
    if target.shape != tensor.shape:
        target.zero_()
    target[tuple(slice(size) for size in tensor.shape)] = tensor
