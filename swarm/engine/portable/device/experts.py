"""Several MLPs, of which each row goes through some: experts.h. What a row is given is added in the order of the experts'
numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from swarm.engine.portable.device.linear import DeviceLinear
from swarm.kernels.structures import CExperts
from swarm.kernels.triton import rows

LARGEST = 0x7FFFFFFF


def route(experts: CExperts, logits: Tensor, scales: Tensor | None, out: Tensor) -> None:
    """[rows, experts] -> [rows, chosen numbers, then their shares]"""
    used = experts.used
    if experts.sum_to_one:
        chosen = _largest(logits, used)
        shares = logits.gather(1, chosen)
        rows.softmax(shares, shares)
    else:
        everything = torch.empty(logits.shape, device=logits.device)
        rows.softmax(logits, everything)
        chosen = _largest(everything, used)
        shares = everything.gather(1, chosen)
    out[:, :used] = chosen
    out[:, used : 2 * used] = shares if scales is None else shares * scales[chosen]


def _largest(x: Tensor, used: int) -> Tensor:
    """The numbers of the largest of each row, largest first, of equal ones the first; what is no number is largest."""
    bits = (x + 0.0).view(torch.int32)  # zeros have one sign
    order = torch.where(bits < 0, bits ^ LARGEST, bits)  # as floats are ordered
    order = torch.where(x.isnan(), LARGEST, order)
    return torch.sort(order, dim=1, descending=True, stable=True).indices[:, :used]


def through(
    experts: CExperts, pairs: list[tuple[DeviceLinear, DeviceLinear]], x: Tensor, routes: Tensor, out: Tensor
) -> None:
    """[rows, hidden] -> [rows, hidden]"""
    chosen = routes[:, : experts.used].long()
    shares = routes[:, experts.used : 2 * experts.used]
    out.zero_()
    for number, mine in enumerate(_rows_of(chosen.cpu(), experts.count)):
        if not len(mine):
            continue
        own = mine.to(x.device)
        up, down = pairs[number]
        wide = up.of(x.index_select(0, own))
        inner = torch.empty(len(mine), experts.inner, device=x.device)
        other = wide[:, experts.inner :] if experts.gated else None
        rows.activate(
            wide[:, : experts.inner], other, inner, experts.activation, experts.limit, experts.slope, experts.offset
        )
        share = torch.where(chosen[own] == number, shares[own], 0.0).sum(
            1, keepdim=True
        )  # of zeros and one share: exact
        out[own] = out[own] + down.of(inner) * share


def _rows_of(chosen: Tensor, count: int) -> list[Tensor]:
    """Of each expert the rows that go through it, ascending."""
    return [(chosen == number).any(1).nonzero().flatten() for number in range(count)]
