"""Numbers to compute with, and whether two results have the same bits."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def numbers_of(*shape: int) -> Tensor:
    """Of whole numbers, since normal draws differ in their last digit between machines."""
    drawn = np.random.default_rng(sum(shape)).integers(-(1 << 15), 1 << 15, shape)
    return torch.from_numpy(drawn).float() / 16384


def same_bits(found: Tensor, expected: Tensor) -> bool:
    """In all that are numbers, and none where there is none: processors differ in its bits."""
    none = expected.isnan()
    bits = [torch.where(none, 0.0, each).view(torch.int32) for each in (found, expected)]
    return torch.equal(found.isnan(), none) and torch.equal(*bits)
