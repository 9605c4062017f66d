"""From tensors to layers: fused, padded and converted straight into the storage that they are used from.

A `Source` says where tensors come from: a checkpoint whose bytes are verified, or a seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol
from zlib import crc32

import torch
from torch import Tensor
from torch.nn import functional

from swarm.engine.activations import ALIGNMENT
from swarm.engine.attention import Attention, capped_attention, sink_attention
from swarm.engine.delta import Delta
from swarm.engine.linear import Linear
from swarm.engine.manifest import Manifest, Progress
from swarm.engine.mlp import Mlp
from swarm.engine.mlp_loading import build_mlp, mlp_has_norms
from swarm.engine.model import Layer
from swarm.engine.naming import Shape
from swarm.engine.norm import Norm
from swarm.engine.numerics import Precision
from swarm.engine.orders import delta_order, qkv_order
from swarm.engine.rope import arrangement
from swarm.engine.spec import ModelSpec
from swarm.engine.weights import Checkpoint, Table

_RANDOM_ELEMENTS = 1 << 20  # drawn once; random weights repeat them, since only speed is measured with those


class Source(Protocol):
    """Where tensors come from."""

    def tensor(self, name: str, shape: Shape) -> Tensor:
        """A tensor of floats of that shape, not to be written to."""

    def table(self, name: str, shape: Shape, dtype: torch.dtype) -> Table:
        """The rows of such a tensor, of which only some will be wanted."""


class VerifiedSource:
    """Tensors of a checkpoint, each checked against the manifest of the model when it is read.

    All shapes are compared with the files before the first is read: what a config claims is not believed, nor allocated.
    """

    def __init__(
        self, checkpoint: Checkpoint, manifest: Manifest, shapes: Mapping[str, Shape], progress: Progress | None
    ) -> None:
        self.checkpoint = checkpoint
        self.manifest = manifest
        stored = {part: size for name, shape in shapes.items() for part, size in checkpoint.check(name, shape).items()}
        self.total = sum(stored.values())  # bytes, for progress
        self.progress = progress
        self._verified: set[str] = set()  # stored tensors of `shapes`: several may be made from one
        self._done = 0

    def tensor(self, name: str, shape: Shape) -> Tensor:
        self._verify(name, shape)
        tensor = self.checkpoint.tensor(name, shape)
        if self.progress is not None:
            self.progress(self._done, self.total)
        return tensor

    def table(self, name: str, shape: Shape, dtype: torch.dtype) -> Table:
        self._verify(name, shape)
        return self.checkpoint.table(name, shape, dtype)

    def _verify(self, name: str, shape: Shape) -> None:
        for stored, size in self.checkpoint.check(name, shape).items():
            if stored not in self._verified:
                self.manifest.verify(self.checkpoint, stored)
                self._verified.add(stored)
                self._done += size


class RandomSource:
    """Random weights, scaled so that rows neither vanish nor explode. For measurements."""

    def __init__(self, seed: int) -> None:
        self._draws = torch.randn(_RANDOM_ELEMENTS, generator=torch.Generator().manual_seed(seed))

    def tensor(self, name: str, shape: Shape) -> Tensor:
        size, first = math.prod(shape), crc32(name.encode()) % _RANDOM_ELEMENTS  # no two experts are alike
        repeated = self._draws.to(torch.bfloat16).repeat(-(-(first + size) // _RANDOM_ELEMENTS))
        draws = repeated[first : first + size].view(shape)
        return draws.mul_(shape[-1] ** -0.5) if len(shape) > 1 else draws.mul_(0.1).add_(1)

    def table(self, name: str, shape: Shape, dtype: torch.dtype) -> Table:
        return Table.of(self.tensor(name, shape))


def build_layer(spec: ModelSpec, layer: int, source: Source, precision: Precision, device: torch.device) -> Layer:
    """One layer, ready to compute. Raises ModelFault naming file and tensor."""
    family, parts = spec.family, LayerParts(spec, layer, source, precision, device)
    first = parts.norm(None if spec.kinds[layer].unnormed else family.attention_norm)
    second = None
    if not mlp_has_norms(spec, layer):
        second = first if family.mlp_norm == family.attention_norm else parts.norm(family.mlp_norm)
    return Layer(
        attention_norm=first,
        mixer=_delta(spec, layer, parts) if spec.kinds[layer].delta else _attention(spec, layer, parts),
        attention_end_norm=parts.norm(family.attention_end_norm),
        attention_sum_norm=parts.norm(family.attention_sum_norm),
        mlp_norm=second,
        mlp=build_mlp(spec, layer, parts),
        mlp_end_norm=parts.norm(family.mlp_end_norm),
        mlp_sum_norm=parts.norm(family.mlp_sum_norm),
        scale=parts.numbers(family.layer_scale, parts.dtype) if family.layer_scale else None,
        parallel=spec.parallel,
    )


def _attention(spec: ModelSpec, layer: int, parts: LayerParts) -> Attention:
    family, kind = spec.family, spec.kinds[layer]
    queries, keys = spec.heads * kind.head_dim, kind.kv_heads * kind.head_dim
    first = 2 * queries if family.attention_gate else queries
    value, heights = family.key if kind.keys_as_values else family.value, [first, keys, keys]
    qkv = [family.query_key_value] if family.query_key_value else [family.query, family.key, value]
    if kind.keys_of is not None:
        qkv, heights = qkv[:1], heights[:1]
    order = None
    if kind.rope is not None:
        order = arrangement(spec.ropes[kind.rope], kind.head_dim, family.interleaved)
    answer: Callable[..., Tensor] = functional.scaled_dot_product_attention
    if spec.attention_softcap is not None:
        answer = partial(capped_attention, softcap=spec.attention_softcap)
    sinks = parts.sinks(kind.kv_heads)
    if sinks is not None:
        answer = partial(sink_attention, sinks=sinks)
    return Attention(
        heads=spec.heads,
        kv_heads=kind.kv_heads,
        head_dim=kind.head_dim,
        window=kind.window,
        rope=kind.rope,
        qkv=parts.linear(qkv, heights, heights, spec.hidden, qkv_order(spec, kind, order)),
        query_norm=parts.norm(family.query_norm, order),
        key_norm=parts.norm(family.key_norm, order) if kind.keys_of is None else None,
        value_norm=parts.unit_norm(kind.head_dim) if family.value_norm and kind.keys_of is None else None,
        output=parts.linear([family.output], [spec.hidden], [spec.hidden], queries),
        answer=answer,
        sinks=sinks,
        scale=_attention_scale(spec, layer),
        distances=parts.distances(family.distances) if family.distances else None,
        gated=family.attention_gate,
        keys_of=kind.keys_of,
    )


def _delta(spec: ModelSpec, layer: int, parts: LayerParts) -> Delta:
    family, shape = spec.family, spec.kinds[layer].delta
    assert shape is not None
    modules = [f"{family.delta}.{each}" for each in family.delta_inputs]
    heights = [parts.shapes[f"{parts.prefix}.{module}.weight"][0] for module in modules]

    def own(name: str) -> Tensor:
        return parts.tensor(f"{family.delta}.{name}").to(device=parts.device, dtype=torch.float32, copy=True)

    return Delta(
        shape=shape,
        projection=parts.linear(modules, heights, heights, spec.hidden, delta_order(shape, family.delta_by_key_head)),
        taps=own("conv1d.weight").view(shape.channels, shape.taps).T.contiguous(),
        rates=-own("A_log").exp(),
        step_bias=own("dt_bias"),
        norm=own("norm.weight"),
        norm_eps=spec.norm_eps,
        output=parts.linear([f"{family.delta}.out_proj"], [spec.hidden], [spec.hidden], shape.values),
    )


def _attention_scale(spec: ModelSpec, layer: int) -> float | None:
    if not spec.scale_by_depth:
        return spec.attention_scale
    scale = spec.kinds[layer].head_dim ** -0.5 if spec.attention_scale is None else spec.attention_scale
    return float(scale / (layer + 1))


class LayerParts:
    """Reads the modules of one layer."""

    def __init__(self, spec: ModelSpec, layer: int, source: Source, precision: Precision, device: torch.device) -> None:
        self.prefix = spec.family.layer.format(layer=layer)
        self.shapes = spec.layer_tensors(layer)
        self.spec = spec
        self.source = source
        self.dtype = precision.dtype
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
        norm = build_norm(self.spec, f"{self.prefix}.{module}", self.shapes, self.source, self.dtype, self.device)
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
        return Norm(torch.ones(width, dtype=self.dtype, device=self.device), None, self.spec.norm_eps)

    def numbers(self, name: str, dtype: torch.dtype) -> Tensor:
        """A tensor as it is stored."""
        return self.tensor(name).to(device=self.device, dtype=dtype, copy=True)

    def router_norm(self, name: str) -> Norm:
        """By the root mean square; its weight is what is stored over the root of the width."""
        weight = self.tensor(name).float() * self.spec.hidden**-0.5
        return Norm(weight.to(device=self.device, dtype=self.dtype), None, self.spec.norm_eps)

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
        self, modules: Sequence[str], parts: list[int], heights: list[int], columns: int, rows: Tensor | None = None
    ) -> Linear:
        """Modules below each other. Their parts of so many rows come to stand in heights, padded with zeros.

        Columns are padded likewise. `rows` says which of these rows come to stand where.
        """
        weight = torch.empty(sum(heights), columns, dtype=self.dtype, device=self.device)
        self._fill(weight, modules, "weight", parts, heights)
        bias = None
        if f"{self.prefix}.{modules[0]}.bias" in self.shapes:
            bias = torch.empty(sum(heights), dtype=self.dtype, device=self.device)
            self._fill(bias, modules, "bias", parts, heights)
        if rows is not None:
            rows = rows.to(self.device)
            weight, bias = weight.index_select(0, rows), None if bias is None else bias.index_select(0, rows)
        return Linear(weight, bias, self.precision)

    def _fill(self, whole: Tensor, modules: Sequence[str], kind: str, parts: list[int], heights: list[int]) -> None:
        targets = list(torch.split(whole, heights))
        if len(modules) == 1 and len(parts) > 1:
            for target, tensor in zip(targets, torch.split(self.tensor(f"{modules[0]}.{kind}"), parts), strict=True):
                _fill(target, tensor)
        else:
            for target, module in zip(targets, modules, strict=True):
                _fill(target, self.tensor(f"{module}.{kind}"))


def build_norm(
    spec: ModelSpec, module: str, shapes: Mapping[str, Shape], source: Source, dtype: torch.dtype, device: torch.device
) -> Norm:
    """A norm as it is computed with: its weight is what is stored, or what is stored is the difference from that."""
    weight, bias = torch.ones(spec.hidden), None  # of norms that do not scale
    if spec.family.norm_weight:
        weight = source.tensor(f"{module}.weight", shapes[f"{module}.weight"])
    if spec.family.norm_offset:
        weight = weight.float() + spec.family.norm_offset
    if spec.family.norm_bias:
        bias = source.tensor(f"{module}.bias", shapes[f"{module}.bias"]).to(device=device, dtype=dtype, copy=True)
    return Norm(weight.to(device=device, dtype=dtype, copy=True), bias, spec.norm_eps, spec.family.centred_norms)


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
