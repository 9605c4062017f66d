"""What decides bits: precisions, the thread count, and the name of a numerics class.

Two peers of one numerics class compute the same bits from the same bytes. Knows nothing of layers or of the network.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from swarm.errors import UsageFault

MAX_CLASS_BYTES = 150  # a class stands in every record
_settled: int | None = None


@dataclass(frozen=True, slots=True)
class Precision:
    """How weights, hidden states and caches are stored, and the shape in which decode rows are computed."""

    name: str
    dtype: torch.dtype
    tile: int  # rows in one call of a linear layer for decode rows


PRECISIONS: dict[str, Precision] = {
    "fp32": Precision("fp32", torch.float32, 4),
    "bf16": Precision("bf16", torch.bfloat16, 16),
}


def precision_named(name: str) -> Precision:
    """The precision of that name. Raises UsageFault naming those that exist."""
    try:
        return PRECISIONS[name]
    except KeyError:
        raise UsageFault(f"unknown precision {name!r}; choose one of {', '.join(PRECISIONS)}") from None


def settle_threads(count: int | None = None) -> int:
    """Fix torch's intra-op thread count, once a process; returns it. None: leave torch's own choice.

    Raises UsageFault when another count was settled before, since results computed so far belong to that one.
    """
    global _settled
    if _settled is None:
        if count is not None:
            if count < 1:
                raise UsageFault(f"--threads {count}: at least one thread is needed")
            torch.set_num_threads(count)
        _settled = torch.get_num_threads()
    elif count is not None and count != _settled:
        raise UsageFault(f"--threads {count}: this process computes with {_settled} threads already")
    return _settled


def _cpu_kind() -> str:
    bf16_dot = "+bf16" if torch.cpu._is_avx512_bf16_supported() else ""
    tiles = "+amx" if torch.cpu._is_amx_tile_supported() else ""
    return f"{torch.backends.cpu.get_cpu_capability().lower()}{bf16_dot}{tiles}"


def numerics_class(precision: Precision, device: str | torch.device = "cpu") -> str:
    """Everything that decides bits, in at most MAX_CLASS_BYTES of ASCII.

    The thread count is part of it on CPU: larger chunks are cut among threads along the summed dimension.
    """
    device = torch.device(device)
    version = torch.__version__.split("+")[0]
    if device.type == "cpu":
        reproducible = os.environ.get("MKL_CBWR", "-").lower()
        parts = [precision.name, "cpu", _cpu_kind(), f"t{torch.get_num_threads()}", f"torch{version}", reproducible]
    else:
        kind = torch.cuda.get_device_name(device).replace(" ", "-")
        parts = [precision.name, device.type, kind, f"torch{version}", f"cuda{torch.version.cuda}"]
    parts.append(f"tile{precision.tile}")
    return "/".join(parts).encode("ascii", "replace").decode()[:MAX_CLASS_BYTES]
