"""What is added to products of queries and keys by how far apart they stand, in both directions, and by head.

Distances share entries of a table: near ones have their own, far ones share them by their logarithm (Raffel et al., T5, 2020).
"""

from __future__ import annotations

import torch
from torch import Tensor

from swarm.model.tensor_names import BUCKETS

FARTHEST = 128  # distances from there on share the last entry


def buckets_of(distances: Tensor) -> Tensor:
    """Entries for whole numbers: how far a key stands after its query, negative where it stands before it."""
    half, own = BUCKETS // 2, BUCKETS // 4  # entries for one direction, and of those the ones that are not shared
    far = distances.abs()
    firsts = torch.tensor(_firsts(own, half - own), device=distances.device)
    entries = torch.where(far < own, far, own + torch.bucketize(far, firsts, right=True))
    return entries + (distances > 0) * half


def _firsts(own: int, shared: int) -> list[int]:
    """The distances at which the second shared entry and those after it begin: entry k where log(far / own) / log(FARTHEST / own)
    is k / shared. In whole numbers, since logarithms that fall on the edge are rounded to either side by one CPU or another."""
    return [
        next(far for far in range(own, FARTHEST) if far**shared * own**k >= own**shared * FARTHEST**k)
        for k in range(1, shared)
    ]


def distance_biases(table: Tensor, rows: int) -> Tensor:
    """[BUCKETS, heads] -> [heads, rows, rows], queries by keys."""
    places = torch.arange(rows, device=table.device)
    entries = buckets_of(places[None, :] - places[:, None])
    return table.T[:, entries].contiguous()
