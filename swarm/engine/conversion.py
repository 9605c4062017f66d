"""Rows of hidden states between torch and the wire: checked where they enter, copied once."""

from __future__ import annotations

import torch

from swarm.engine.numerics import Precision
from swarm.errors import UsageFault
from swarm.wire import tensors as wire


def from_wire(tensor: wire.Tensor, width: int, precision: Precision, device: torch.device) -> torch.Tensor:
    """[rows, width]. Raises UsageFault naming what came and what is expected."""
    shape = tensor.shape
    if tensor.dtype != precision.rows or len(shape) != 2 or shape[1] != width or shape[0] < 1:
        raise UsageFault(
            f"rows came as {tensor.dtype} {list(shape)}; this model in this precision takes {precision.rows} [rows, {width}]"
        )
    # The frame that the bytes came in is given back, and may be read-only: so they are copied
    rows = torch.frombuffer(bytearray(tensor.data), dtype=precision.dtype).view(shape)
    return rows.to(device)


def to_wire(rows: torch.Tensor, precision: Precision) -> wire.Tensor:
    """Uncopied where the rows are on CPU."""
    rows = rows.detach().cpu().contiguous()
    data = rows.view(torch.uint8).numpy().reshape(-1).data
    return wire.Tensor(precision.rows, tuple(rows.shape), data)
