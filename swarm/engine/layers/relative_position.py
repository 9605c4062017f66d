"""What is added to products of queries and keys by how far apart they stand, in both directions, and by head.

Distances share entries of a table: near ones have their own, far ones share them by their logarithm (Raffel et al., T5, 2020).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from swarm.model.tensor_names import BUCKETS

FARTHEST = 128  # distances from there on share the last entry


def buckets_of(distances: Tensor) -> Tensor:
    """Entries for whole numbers: how far a key stands after its query, negative where it stands before it."""
    half, own = BUCKETS // 2, BUCKETS // 4  # entries for one direction, and of those the ones that are not shared
    far = distances.abs()
    shared = (far.float() / own).clamp(min=1).log() / math.log(FARTHEST / own) * (half - own)
    entries = torch.where(far < own, far, (own + shared.long()).clamp(max=half - 1))
    return entries + (distances > 0) * half


def distance_biases(table: Tensor, rows: int) -> Tensor:
    """[BUCKETS, heads] -> [heads, rows, rows], queries by keys."""
    places = torch.arange(rows, device=table.device)
    entries = buckets_of(places[None, :] - places[:, None])
    return table.T[:, entries].contiguous()
