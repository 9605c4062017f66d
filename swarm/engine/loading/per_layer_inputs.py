"""From tensors to what layers take of a row's token itself."""

from __future__ import annotations

import torch

from swarm.engine.embedding import Embedding
from swarm.engine.layers.per_layer_inputs import TokenInput, TokenInputs
from swarm.engine.loading.parts import LayerParts, build_linear, build_norm, padded
from swarm.engine.loading.sources import Source
from swarm.engine.numerics import PrecisionPlan
from swarm.model.spec import ModelSpec
from swarm.model.tensor_names import token_tensors
from swarm.span import LayerSpan


def build_token_inputs(
    spec: ModelSpec, span: LayerSpan, source: Source, plan: PrecisionPlan, device: torch.device
) -> TokenInputs | None:
    """Those of a span's layers; None where the model has none. Raises ModelFault naming file and tensor."""
    tables, width, shapes = spec.family.token_tables, spec.token_width, token_tensors(spec)
    if tables is None or not width:
        return None
    names = [f"{module}.weight" for module in (spec.family.embedding, tables.table, tables.context)]
    context = source.tensor(names[2], shapes[names[2]])
    context_norm, inner = (
        build_norm(spec, tables.context_norm, shapes, source, plan.between, device),
        plan.between.inner,
    )
    inputs = {}
    for layer in span:
        precision, end = plan.of(layer), padded(width)
        parts, floats = LayerParts(spec, layer, source, precision, device), precision.floats
        weight = context[layer * width : (layer + 1) * width].to(device=device, dtype=floats.weight_dtype, copy=True)
        end_norm = parts.norm(tables.end_norm)
        assert end_norm is not None
        inputs[layer] = TokenInput(
            context=build_linear(weight, None, floats),
            context_norm=context_norm,
            gate=parts.linear([tables.gate], [width], [end], spec.hidden),
            output=parts.linear([tables.output], [spec.hidden], [spec.hidden], end),
            end_norm=end_norm,
        )
    embedding, table = (source.table(name, shapes[name], inner) for name in names[:2])
    embedded = Embedding(spec, embedding, None, None, None, None, inner, device)
    return TokenInputs(spec, span, inputs, embedded, table, inner, device)
