"""Which distances share entries of a table: as the logarithm says, with edges in whole numbers."""

from __future__ import annotations

import math

import torch

from swarm.engine.layers.relative_position import FARTHEST, buckets_of
from swarm.model.tensor_names import BUCKETS


def test_far_ones_share_by_their_logarithm() -> None:
    half, own = BUCKETS // 2, BUCKETS // 4
    distances = torch.arange(-3000, 3001)
    for distance, entry in zip(distances.tolist(), buckets_of(distances).tolist(), strict=True):
        far = abs(distance)
        place = math.log(max(far, own) / own) / math.log(FARTHEST / own) * (half - own)
        expected = far if far < own else min(own + math.floor(place + 1e-9), half - 1)
        assert entry == expected + (distance > 0) * half
