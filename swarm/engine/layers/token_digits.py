"""Token ids at the end of rows, for models whose layers need them too: digits that every precision holds exactly.

Layers give them on as they came. Knows nothing of what is made of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from swarm.model.spec import ID_DIGITS

BASE = 256  # a bf16 number has 8 bits
UNIT = 1 / BASE  # of a digit: small beside what rows consist of


def with_ids(rows: Tensor, ids: Sequence[int]) -> Tensor:
    """[rows, hidden] -> [rows, hidden + ID_DIGITS]"""
    whole = torch.tensor(ids)
    digits = torch.stack([whole // BASE**place % BASE for place in range(ID_DIGITS)], 1)
    return torch.cat((rows, (digits * UNIT).to(device=rows.device, dtype=rows.dtype)), 1)


def ids_of(digits: Tensor, vocab: int) -> list[int]:
    """Of [rows, ID_DIGITS] the ids. What no client sends gives some id or other of the vocabulary."""
    found = (digits.float() / UNIT).nan_to_num(0.0).round().clamp(0, BASE - 1).long().cpu()
    places = torch.tensor([BASE**place for place in range(ID_DIGITS)])
    return [int(id_) for id_ in (found * places).sum(1).clamp(max=vocab - 1)]
