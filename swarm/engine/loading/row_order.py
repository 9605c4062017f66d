"""Where the rows of stored weights come to stand, so that what computes with them finds each part in one piece."""

from __future__ import annotations

import torch
from torch import Tensor

from swarm.model.layer_kinds import DeltaShape, LayerKind
from swarm.model.spec import ModelSpec


def qkv_order(spec: ModelSpec, kind: LayerKind, order: Tensor | None) -> Tensor | None:
    """Where `Attention` wants the rows of its first weight, by where they stand below each other; None: there.

    Of queries and keys each head's rows in `order`; gates, which stand behind their head's query, behind everything. What
    stands key by key comes apart.
    """
    own, head_dim = kind.row_shape[0], kind.head_dim
    heads = spec.heads + own
    rows = torch.arange((heads + own + (spec.heads if spec.family.attention_gate else 0)) * head_dim)
    if spec.family.attention_gate:
        pairs = rows[: 2 * spec.heads * head_dim].view(spec.heads, 2, head_dim)
        rows = torch.cat((pairs[:, 0].flatten(), rows[pairs.numel() :], pairs[:, 1].flatten()))
    elif spec.family.grouped_by_key:
        groups = rows.view(kind.kv_heads, -1, head_dim)  # of a key's queries, the key and the value
        rows = torch.cat([part.flatten() for part in (groups[:, :-2], groups[:, -2], groups[:, -1])])
    elif order is None:
        return None
    if order is not None:
        rows[: heads * head_dim] = rows[: heads * head_dim].view(heads, head_dim)[:, order].flatten()
    return rows


def delta_order(shape: DeltaShape, by_key_head: bool) -> Tensor | None:
    """Where `Delta` wants the rows of its projection, by where they stand: all heads' queries, all keys, and so on."""
    if not by_key_head:
        return None
    group = shape.value_heads // shape.key_heads
    rows, found = torch.arange(shape.channels + shape.values + 2 * shape.value_heads), []
    inputs = rows[: shape.channels + shape.values].view(shape.key_heads, -1)
    widths = [shape.key_dim, shape.key_dim, group * shape.value_dim, group * shape.value_dim]
    found += [part.flatten() for part in torch.split(inputs, widths, 1)]
    strengths = rows[shape.channels + shape.values :].view(shape.key_heads, 2, group)
    return torch.cat((*found, strengths[:, 0].flatten(), strengths[:, 1].flatten()))
