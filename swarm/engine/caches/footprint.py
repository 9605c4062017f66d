"""What a span takes in memory, before anything is loaded. Pure arithmetic; a plan of precisions that is unknown, or that does
not fit the model, is a UsageFault."""

from __future__ import annotations

import math
from collections.abc import Callable

from swarm.engine.caches.kv_cache import pages_of
from swarm.engine.caches.recurrent_state import StateShape, states_of
from swarm.engine.loading.parts import padded
from swarm.engine.numerics import PrecisionPlan
from swarm.model.layer_kinds import LayerKind
from swarm.model.spec import ModelSpec
from swarm.model.tensor_names import Shape, layer_tensors
from swarm.precision import Plan
from swarm.span import LayerSpan

Stored = Callable[[str, Shape], int]  # a tensor's name and shape -> bytes that it takes as its file holds it


def layer_bytes(spec: ModelSpec, layer: int, precision: str, stored: Stored | None = None) -> int:
    """The weights of one layer, as they are held. Without `stored` those that are as files hold them count as bf16."""
    own = _plan(spec, precision).of(layer)
    if own.stored and stored is not None:
        return sum(stored(name, shape) for name, shape in layer_tensors(spec, layer).items())
    plain, kind = sum(math.prod(shape) for shape in layer_tensors(spec, layer).values()), spec.kinds[layer]
    if kind.keys_as_values:  # kept as both
        plain += kind.kv_heads * kind.head_dim * (spec.hidden + spec.qkv_bias)
    plain += spec.token_width * (spec.hidden + 1)  # the layer's part of what all share
    return own.bytes_of(plain + _padding(spec, kind))


def _plan(spec: ModelSpec, precision: str) -> PrecisionPlan:
    """Whoever computes it."""
    return PrecisionPlan(Plan.parse(precision).over(spec.layer_count), portable=True)


def _padding(spec: ModelSpec, kind: LayerKind) -> int:
    """Entries by which its MLPs are wider than stored."""
    ups = 2 if spec.family.gate or spec.family.gate_up else 1
    tokens = (padded(spec.token_width) - spec.token_width) * 2 * spec.hidden
    mlps = []  # inner width, whether there are biases, and how many
    if kind.experts:
        mlps += [(spec.expert_inner, spec.expert_bias, kind.experts), (spec.shared_inner, False, 1)]
    if not kind.experts or spec.family.mlp_beside_experts:
        mlps += [(spec.inner * kind.inner_times, spec.mlp_bias, 1)]
    return tokens + sum(
        (padded(inner) - inner) * ((ups + 1) * spec.hidden + (ups if biased else 0)) * count
        for inner, biased, count in mlps
    )


def row_bytes(spec: ModelSpec, span: LayerSpan, precision: str) -> int:
    """The cache of one row in all layers of a span."""
    if spec.both_ways:
        return 0
    between = _plan(spec, precision).between
    shapes = [spec.kinds[layer].row_shape for layer in span]
    numbers = sum(2 * kv_heads * between.cached_width(head_dim) for kv_heads, head_dim in shapes)
    return numbers * between.cache_dtype.itemsize


def session_bytes(spec: ModelSpec, span: LayerSpan, precision: str, max_rows: int) -> int:
    """The cache of a session of so many rows in all layers of a span, apart from these rows."""
    shapes = [state_shape(spec, layer) for layer in span]
    itemsize = _plan(spec, precision).between.dtype.itemsize
    return states_of(max_rows) * sum(shape.bytes(itemsize) for shape in shapes if shape is not None)


def state_shape(spec: ModelSpec, layer: int) -> StateShape | None:
    """Of what a layer keeps of a session in the place of rows; None: it keeps rows."""
    delta = spec.kinds[layer].delta
    if delta is None:
        return None
    return StateShape((delta.taps - 1, delta.channels), (delta.value_heads, delta.key_dim, delta.value_dim))


def head_bytes(spec: ModelSpec, precision: str, stored: Stored | None = None) -> int:
    """The final norm, the head and projections. The embedding is read from the file, row by row."""
    last, numbers = _plan(spec, precision).last, spec.hidden
    if spec.embedding_width != spec.hidden:
        numbers += 2 * spec.hidden * spec.embedding_width
    if spec.family.head is None:
        return last.floats.bytes_of(numbers)
    name = f"{spec.family.embedding if spec.tied else spec.family.head}.weight"
    if last.stored and stored is not None:
        return last.floats.bytes_of(numbers) + stored(name, (spec.vocab, spec.embedding_width))
    return last.floats.bytes_of(numbers) + last.logits.bytes_of(spec.vocab * spec.embedding_width)


def footprint(
    spec: ModelSpec,
    span: LayerSpan,
    precision: str,
    cache_rows: int = 0,
    with_head: bool = False,
    stored: Stored | None = None,
) -> int:
    """Bytes that a stage over `span` takes, with room for a session of `cache_rows` rows."""
    weights = sum(layer_bytes(spec, layer, precision, stored) for layer in span)
    cache = pages_of(cache_rows) * row_bytes(spec, span, precision)
    cache += session_bytes(spec, span, precision, cache_rows) if cache_rows else 0
    return weights + cache + (head_bytes(spec, precision, stored) if with_head else 0)
