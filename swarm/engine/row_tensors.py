"""Tensors of rows, for floors that hold them without computing: they import torch through the engine, which must come first."""

from __future__ import annotations

from collections.abc import Sequence

import torch

Rows = torch.Tensor  # [count, hidden]


def join_rows(parts: Sequence[Rows]) -> Rows:
    """Parts of [count, hidden] as one tensor."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def zero_rows(count: int, hidden: int, dtype: torch.dtype, device: torch.device | str) -> Rows:
    """[count, hidden]"""
    return torch.zeros(count, hidden, dtype=dtype, device=device)
