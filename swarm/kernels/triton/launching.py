"""How every kernel is compiled: as IEEE arithmetic, operation by operation."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

# A product and a sum stay two operations, and libdevice keeps subnormals. Division and square roots are div_rn and sqrt_rn, and
# no product of floats is a tl.dot, whose order is its own.
EXACT: dict[str, Any] = {"enable_fp_fusion": False, "enable_reflect_ftz": False}
ALONE: dict[str, Any] = {**EXACT, "num_warps": 1}  # a row that is read whole before it is written where it was
INTERPRETED = 256  # numbers that a program takes at most where numpy computes: a step costs the same, however wide


def current(device: torch.device) -> AbstractContextManager[object]:
    """Kernels are launched on whichever device is a thread's current one."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def power_of_two(count: int) -> int:
    """The least that is no smaller."""
    return 1 << max(0, count - 1).bit_length()


def block(width: int, most: int, device: torch.device) -> int:
    """So many numbers a program takes of a width: a power of two, which decides no bits."""
    return min(INTERPRETED if device.type == "cpu" else most, power_of_two(width))
