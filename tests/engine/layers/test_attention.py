"""Attention with sinks: against its definition, on whichever device."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from swarm.engine import PRECISIONS
from swarm.engine.layers import attention
from swarm.engine.layers.attention import sink_attention

KV_HEADS, GROUP, ROWS, POSITIONS, HEAD_DIM = 2, 3, 5, 40, 20


def drawn(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Queries, keys, values, a mask of two kinds of rows, and sinks of all sizes."""
    generator = torch.Generator().manual_seed(4)
    queries = torch.randn(1, KV_HEADS, GROUP * ROWS, HEAD_DIM, generator=generator)
    keys, values = torch.randn(2, 1, KV_HEADS, POSITIONS, HEAD_DIM, generator=generator).unbind()
    mask = torch.full((ROWS, POSITIONS), -torch.inf).triu(POSITIONS - ROWS + 1).repeat(GROUP, 1)
    sinks = torch.tensor([[-60.0, 0.0, 3.0], [1.0, 8.0, 60.0]])
    return queries.to(dtype), keys.to(dtype), values.to(dtype), mask.to(dtype), sinks


def defined(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor, scale: float, sinks: Tensor) -> Tensor:
    """A softmax over one product more, whose value is nothing."""
    products = queries.double() @ keys.double().mT * scale + mask.double()
    column = sinks.double().view(1, KV_HEADS, GROUP, 1, 1).expand(1, KV_HEADS, GROUP, ROWS, 1)
    shares = torch.cat((products, column.reshape(1, KV_HEADS, -1, 1)), -1).softmax(-1)
    return shares[..., :-1] @ values.double()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("scale", [None, 0.4])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_sink_is_one_logit_more(
    precision: str, scale: float | None, elsewhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if elsewhere:
        monkeypatch.setattr(attention, "FUSED", ())
    queries, keys, values, mask, sinks = drawn(PRECISIONS[precision].dtype)
    answer = sink_attention(queries, keys, values, mask, scale=scale, sinks=sinks)
    assert answer.dtype == queries.dtype
    expected = defined(queries, keys, values, mask, scale or HEAD_DIM**-0.5, sinks)
    assert (answer - expected).abs().max() < {"fp32": 2e-6, "bf16": 0.02}[precision]
    alone = sink_attention(queries[:, :, 4::ROWS], keys, values, None, scale=scale, sinks=sinks)  # a row that sees all
    assert (alone - expected[:, :, 4::ROWS]).abs().max() < {"fp32": 2e-6, "bf16": 0.02}[precision]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_cache_s_capacity_decides_no_bit(precision: str, elsewhere: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if elsewhere:
        monkeypatch.setattr(attention, "FUSED", ())
    queries, keys, values, mask, sinks = drawn(PRECISIONS[precision].dtype)
    answer = sink_attention(queries, keys, values, mask, scale=None, sinks=sinks)
    for capacity in (POSITIONS + 1, 64, 1024):
        held = torch.full((2, 1, KV_HEADS, capacity, HEAD_DIM), torch.nan, dtype=queries.dtype)[:, :, :, :POSITIONS]
        held[0], held[1] = keys, values
        assert torch.equal(sink_attention(queries, *held.unbind(), mask, scale=None, sinks=sinks), answer)
