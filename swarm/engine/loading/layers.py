"""From a source's tensors to layers: which modules a layer of this family and kind has."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from swarm.engine.decoder import Layer
from swarm.engine.layers.attention import Attention, capped_attention, sink_attention
from swarm.engine.layers.gated_delta import Delta
from swarm.engine.layers.rope import arrangement
from swarm.engine.loading.mlp import build_mlp, mlp_has_norms
from swarm.engine.loading.parts import LayerParts
from swarm.engine.loading.row_order import delta_order, qkv_order
from swarm.engine.loading.sources import Source
from swarm.engine.numerics import Precision
from swarm.engine.portable.activations import entries
from swarm.model.spec import ModelSpec


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
        softcap=spec.attention_softcap,
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

    decays = own("A_log")  # logarithms
    return Delta(
        shape=shape,
        projection=parts.linear(modules, heights, heights, spec.hidden, delta_order(shape, family.delta_by_key_head)),
        taps=own("conv1d.weight").view(shape.channels, shape.taps).T.contiguous(),
        rates=-(entries("exp", decays.view(1, -1)).view(-1) if parts.precision.portable else decays.exp()),
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
