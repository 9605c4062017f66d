"""The names and shapes of a model's tensors in its checkpoint, by its family and its sizes. No torch here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from swarm.model.families import Family
from swarm.model.layer_kinds import DeltaShape, LayerKind
from swarm.model.spec import ModelSpec

BUCKETS = 32  # entries of a table by distance, for each head, half of them for keys after the query
Shape = tuple[int, ...]
Module = tuple[str, int, int, bool]  # its name, rows and columns, and whether it has a bias


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a tensor lies if it does not lie for itself."""

    name: str
    shape: Shape  # of what lies there
    place: int | None  # along its first dimension, of tensors on top of each other; None: it is all of it
    outputs: slice  # along the first dimension that is left
    by_input: bool = False  # once these two dimensions were exchanged
    always: bool = False  # it never lies for itself


def layer_tensors(spec: ModelSpec, layer: int) -> dict[str, Shape]:
    """Those of one layer."""
    family, kind = spec.family, spec.kinds[layer]
    prefix = family.layer.format(layer=layer)
    shapes: dict[str, Shape] = {}
    for module, width in _norms(spec, kind):
        shapes |= _norm(spec, f"{prefix}.{module}", width)
    if family.layer_scale:
        shapes[f"{prefix}.{family.layer_scale}"] = (1,)
    mlp = _experts(spec, kind.experts) if kind.experts else []
    if family.mlp_beside_experts or not kind.experts:
        mlp += _mlp(spec, kind)
    if family.expert_scales and kind.experts:
        shapes[f"{prefix}.{family.expert_scales}"] = (kind.experts,)
    if family.mlp_beside_experts and kind.experts:
        shapes[f"{prefix}.{family.router_norm}"] = (spec.hidden,)
    mixer = _attention(spec, kind) if kind.delta is None else _delta_inputs(spec, kind.delta)
    if family.token_tables and spec.token_width:
        mlp += [(family.token_tables.gate, spec.token_width, spec.hidden, False)]
        mlp += [(family.token_tables.output, spec.hidden, spec.token_width, False)]
    for module, rows, columns, biased in mixer + mlp:
        shapes[f"{prefix}.{module}.weight"] = (columns, rows) if family.transposed else (rows, columns)
        if biased:
            shapes[f"{prefix}.{module}.bias"] = (rows,)
    if kind.delta is not None:
        shapes |= {f"{prefix}.{family.delta}.{name}": shape for name, shape in _delta_own(kind.delta).items()}
    if family.sinks:
        shapes[f"{prefix}.{family.sinks}"] = (spec.heads,)
    if family.distances:
        shapes[f"{family.distances}.weight"] = (BUCKETS, spec.heads)
    return shapes


def token_tensors(spec: ModelSpec) -> dict[str, Shape]:
    """What all layers share that take something of a row's token itself; with the embedding, of which they take too."""
    tables, numbers = spec.family.token_tables, spec.layer_count * spec.token_width
    if tables is None or not spec.token_width:
        return {}
    return {
        f"{spec.family.embedding}.weight": (spec.vocab, spec.hidden),
        f"{tables.table}.weight": (spec.vocab, numbers),
        f"{tables.context}.weight": (numbers, spec.hidden),
        f"{tables.context_norm}.weight": (spec.token_width,),
    }


def head_tensors(spec: ModelSpec) -> dict[str, Shape]:
    """Those before the first layer and after the last; of a tied head there is only the embedding."""
    family, table = spec.family, (spec.vocab, spec.embedding_width)
    shapes: dict[str, Shape] = {f"{family.embedding}.weight": table}
    if spec.embedding_width != spec.hidden:
        shapes[f"{family.embedding_projection}.weight"] = (spec.hidden, spec.embedding_width)
        shapes[f"{family.head_projection}.weight"] = (spec.embedding_width, spec.hidden)
    if family.positions:
        before = family.position_offset if spec.pad_id is None else spec.pad_id + 1
        shapes[f"{family.positions}.weight"] = (spec.max_positions + before, spec.hidden)
    if family.token_types:
        shapes[f"{family.token_types}.weight"] = (spec.token_types, spec.hidden)
    for module in (family.embedding_norm, family.final_norm):
        if module is not None:
            shapes |= _norm(spec, module, spec.hidden)
    if family.head and not spec.tied:
        shapes[f"{family.head}.weight"] = table
    return shapes


def _norm(spec: ModelSpec, module: str, width: int) -> dict[str, Shape]:
    kinds = {"weight": spec.family.norm_weight, "bias": spec.family.norm_bias}
    return {f"{module}.{kind}": (width,) for kind, stored in kinds.items() if stored}


def _norms(spec: ModelSpec, kind: LayerKind) -> list[tuple[str, int]]:
    """Names and widths."""
    family = spec.family
    queries, keys = spec.heads * kind.head_dim, kind.kv_heads * kind.head_dim
    norms = (
        (None if kind.unnormed else family.attention_norm, spec.hidden),
        (None if kind.delta else family.query_norm, queries if family.norm_whole_width else kind.head_dim),
        (family.key_norm if kind.row_shape[0] else None, keys if family.norm_whole_width else kind.head_dim),
        (family.attention_end_norm, spec.hidden),
        (family.attention_sum_norm, spec.hidden),
        (family.mlp_norm, spec.hidden),
        (family.mlp_end_norm, spec.hidden),
        (family.mlp_sum_norm, spec.hidden),
        (family.token_tables.end_norm if family.token_tables and spec.token_width else None, spec.hidden),
        *((each, spec.hidden) for each in (_norms_beside(family) if kind.experts else ())),
    )
    return [(module, width) for module, width in norms if module is not None]


def _norms_beside(family: Family) -> tuple[str | None, ...]:
    return family.beside_end_norm, family.experts_norm, family.experts_end_norm


def _attention(spec: ModelSpec, kind: LayerKind) -> list[Module]:
    family, queries, keys = spec.family, spec.heads * kind.head_dim, kind.kv_heads * kind.head_dim
    if family.query_key_value:
        modules = [(family.query_key_value, queries + 2 * keys, spec.hidden, spec.qkv_bias)]
    else:
        gated = 2 * queries if family.attention_gate else queries
        parts = [(family.query, gated), (family.key, keys), (family.value, keys)]
        stored = 1 if kind.keys_of is not None else 2 if kind.keys_as_values else 3
        modules = [(module, rows, spec.hidden, spec.qkv_bias) for module, rows in parts[:stored]]
    return [*modules, (family.output, spec.hidden, queries, spec.output_bias)]


def _delta_inputs(spec: ModelSpec, delta: DeltaShape) -> list[Module]:
    widths = {
        "in_proj_qkvz": delta.channels + delta.values,
        "in_proj_ba": 2 * delta.value_heads,
        "in_proj_qkv": delta.channels,
        "in_proj_z": delta.values,
        "in_proj_b": delta.value_heads,
        "in_proj_a": delta.value_heads,
    }
    modules = [(f"{spec.family.delta}.{each}", widths[each], spec.hidden, False) for each in spec.family.delta_inputs]
    return [*modules, (f"{spec.family.delta}.out_proj", spec.hidden, delta.values, False)]


def _delta_own(delta: DeltaShape) -> dict[str, Shape]:
    """What is no linear layer."""
    heads = (delta.value_heads,)
    return {
        "conv1d.weight": (delta.channels, 1, delta.taps),
        "A_log": heads,
        "dt_bias": heads,
        "norm.weight": (delta.value_dim,),
    }


def _mlp(spec: ModelSpec, kind: LayerKind) -> list[Module]:
    family, inner = spec.family, spec.inner * kind.inner_times
    if family.gate_up:
        modules = [(family.gate_up, 2 * inner, spec.hidden, spec.mlp_bias)]
    else:
        names = [family.gate, family.up] if family.gate else [family.up]
        modules = [(module, inner, spec.hidden, spec.mlp_bias) for module in names]
    return [*modules, (family.down, spec.hidden, inner, spec.mlp_bias)]


def _experts(spec: ModelSpec, experts: int) -> list[Module]:
    family, hidden, inner = spec.family, spec.hidden, spec.expert_inner
    modules = [(family.router or "", experts, hidden, spec.router_bias)]
    for expert in range(experts):
        prefix = family.expert.format(expert=expert)
        modules.append((f"{prefix}.{family.expert_gate}", inner, hidden, spec.expert_bias))
        modules.append((f"{prefix}.{family.expert_up}", inner, hidden, spec.expert_bias))
        modules.append((f"{prefix}.{family.expert_down}", hidden, inner, spec.expert_bias))
    if family.shared_expert:
        inner, prefix = spec.shared_inner, family.shared_expert
        modules += [(f"{prefix}.{each}", inner, hidden, False) for each in (family.expert_gate, family.expert_up)]
        modules += [(f"{prefix}.{family.expert_down}", hidden, inner, False), (family.shared_gate, 1, hidden, False)]
    return modules


def stacked_tensors(spec: ModelSpec, layer: int) -> dict[str, Slot]:
    """Those of one layer that lie on top of each other in some checkpoints, or in all."""
    return dict(_slots(spec, layer))


def _slots(spec: ModelSpec, layer: int) -> Iterator[tuple[str, Slot]]:
    family, stack, experts = spec.family, spec.family.expert_stack, spec.kinds[layer].experts
    if stack is None or not experts:
        return
    prefix, hidden, inner = family.layer.format(layer=layer), spec.hidden, spec.expert_inner
    if stack.router is not None:
        yield (
            f"{prefix}.{family.router}.weight",
            Slot(f"{prefix}.{stack.router}.weight", (experts, hidden), None, slice(None)),
        )
    gates, ups = slice(inner), slice(inner, None)
    if stack.alternating:
        gates, ups = slice(0, None, 2), slice(1, None, 2)
    for module, whole, outputs, inputs, part in (
        (family.expert_gate, stack.gate_up, 2 * inner, hidden, gates),
        (family.expert_up, stack.gate_up, 2 * inner, hidden, ups),
        (family.expert_down, stack.down, hidden, inner, slice(None)),
    ):
        shape = (experts, inputs, outputs) if stack.by_input else (experts, outputs, inputs)
        for expert in range(experts):
            name = f"{prefix}.{family.expert.format(expert=expert)}.{module}"
            yield f"{name}.weight", Slot(f"{prefix}.{whole}", shape, expert, part, stack.by_input, stack.always)
            if spec.expert_bias:
                bias = Slot(f"{prefix}.{whole}_bias", (experts, outputs), expert, part, always=stack.always)
                yield f"{name}.bias", bias
