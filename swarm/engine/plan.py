"""What a span takes in memory, before anything is loaded. Pure arithmetic; an unknown precision is a UsageFault."""

from __future__ import annotations

import math

from swarm.engine.cache import pages_of
from swarm.engine.loading import padded_inner
from swarm.engine.numerics import precision_named
from swarm.engine.spec import ModelSpec
from swarm.span import LayerSpan


def layer_bytes(spec: ModelSpec, precision: str) -> int:
    """The weights of one layer, as they are stored."""
    plain = sum(math.prod(shape) for shape in spec.layer_tensors(0).values())
    padding = padded_inner(spec) - spec.inner
    biases = 2 if spec.mlp_bias else 0
    return (plain + padding * (3 * spec.hidden + biases)) * precision_named(precision).dtype.itemsize


def row_bytes(spec: ModelSpec, precision: str) -> int:
    """The cache of one row in one layer."""
    return 2 * spec.kv_heads * spec.head_dim * precision_named(precision).dtype.itemsize


def head_bytes(spec: ModelSpec, precision: str) -> int:
    """The final norm and the head. The embedding is read from the file, row by row."""
    return (spec.vocab + 1) * spec.hidden * precision_named(precision).dtype.itemsize


def footprint(spec: ModelSpec, span: LayerSpan, precision: str, cache_rows: int = 0, with_head: bool = False) -> int:
    """Bytes that a stage over `span` takes, with room for `cache_rows` rows of cache."""
    layer = layer_bytes(spec, precision) + pages_of(cache_rows) * row_bytes(spec, precision)
    return len(span) * layer + (head_bytes(spec, precision) if with_head else 0)


def fitting_span(
    spec: ModelSpec, span: LayerSpan, precision: str, memory: int, cache_rows: int = 0
) -> LayerSpan | None:
    """The longest beginning of `span` that fits into `memory` bytes; None where not even one layer does."""
    layers = memory // footprint(spec, LayerSpan(span.start, span.start + 1), precision, cache_rows)
    return LayerSpan(span.start, min(span.stop, span.start + layers)) if layers else None
