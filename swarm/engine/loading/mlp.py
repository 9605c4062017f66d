"""From tensors to what follows attention in a layer."""

from __future__ import annotations

import torch

from swarm.engine.layers.mlp import Experts, Mlp, MlpAndExperts
from swarm.engine.layers.norm import Norm
from swarm.engine.loading.parts import LayerParts
from swarm.model.spec import ModelSpec


def build_mlp(spec: ModelSpec, layer: int, parts: LayerParts) -> Mlp | Experts | MlpAndExperts:
    """What this layer has of these."""
    if not spec.kinds[layer].experts:
        return _mlp(spec, layer, parts)
    if mlp_has_norms(spec, layer):
        return _mlp_and_experts(spec, layer, parts)
    return _experts(spec, layer, parts)


def mlp_has_norms(spec: ModelSpec, layer: int) -> bool:
    """Whether it norms rows itself, for each of its parts."""
    return spec.family.mlp_beside_experts and spec.kinds[layer].experts > 0


def _mlp(spec: ModelSpec, layer: int, parts: LayerParts) -> Mlp:
    family, inner = spec.family, spec.inner * spec.kinds[layer].inner_times
    if family.gate is None and family.gate_up is None:
        return parts.plain_mlp(family.up, family.down, inner, spec.hidden)
    gate_up = [family.gate_up] if family.gate_up else [family.gate or "", family.up]
    return parts.mlp(gate_up, family.down, inner, spec.hidden)


def _experts(spec: ModelSpec, layer: int, parts: LayerParts) -> Experts:
    family, count = spec.family, spec.kinds[layer].experts
    experts = []
    for expert in range(count):
        prefix = family.expert.format(expert=expert)
        gate_up = [f"{prefix}.{family.expert_gate}", f"{prefix}.{family.expert_up}"]
        experts.append(parts.mlp(gate_up, f"{prefix}.{family.expert_down}", spec.expert_inner, spec.hidden))
    router = parts.linear([family.router or ""], [count], [count], spec.hidden, floats=True)
    shared = gate = None
    if family.shared_expert:
        gate_up = [f"{family.shared_expert}.{each}" for each in (family.expert_gate, family.expert_up)]
        shared = parts.mlp(gate_up, f"{family.shared_expert}.{family.expert_down}", spec.shared_inner, spec.hidden)
        gate = parts.linear([family.shared_gate], [1], [1], spec.hidden, floats=True)
    scales = parts.numbers(family.expert_scales, torch.float32) if family.expert_scales else None
    return Experts(router, experts, spec.experts_used, spec.shares_sum_to_one, shared, gate, scales)


def _mlp_and_experts(spec: ModelSpec, layer: int, parts: LayerParts) -> MlpAndExperts:
    family = spec.family

    def norm(module: str | None) -> Norm:
        found = parts.norm(module)
        assert found is not None, f"{spec.architecture} names all norms of what stands beside each other"
        return found

    return MlpAndExperts(
        norm=norm(family.mlp_norm),
        mlp=_mlp(spec, layer, parts),
        end_norm=norm(family.beside_end_norm),
        router_norm=parts.router_norm(family.router_norm),
        experts_norm=norm(family.experts_norm),
        experts=_experts(spec, layer, parts),
        experts_end_norm=norm(family.experts_end_norm),
    )
