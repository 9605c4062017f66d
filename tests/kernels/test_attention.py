"""Attention: as in fp64, and the same bits on every path, however rows are taken together and wherever a row's cache lies."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from swarm.kernels import Library
from swarm.kernels.library import CACHES, CSeen
from swarm.kernels.structures import CAttention

HEADS, KV_HEADS, POSITIONS = 6, 2, 300
# SHA-256 of `attend` over rows of head_dim 20 in bf16: other bits are another standard
GOLDEN = "496a563195ac58f06666c2883884f3dfa216d2ca886b385c7fb7550355d9b770"


def numbers_of(*shape: int) -> Tensor:
    """Of whole numbers, since normal draws differ in their last digit between machines."""
    drawn = np.random.default_rng(sum(shape)).integers(-(1 << 15), 1 << 15, shape)
    return torch.from_numpy(drawn).float() / 16384


def cached(head_dim: int, kind: str) -> Tensor:
    """[2, kv_heads, positions, head_dim]"""
    numbers = numbers_of(2, KV_HEADS, POSITIONS, head_dim)
    return numbers.to(torch.bfloat16 if kind == "bf16" else torch.float32)


def queries(rows: int, head_dim: int) -> Tensor:
    return numbers_of(rows, HEADS, head_dim)


def attend(
    kernels: Library,
    asked: Tensor,
    cache: Tensor,
    ranges: Sequence[tuple[int, int]],
    softcap: float = 0.0,
    sinks: Tensor | None = None,
    biases: Sequence[Tensor] | None = None,
) -> Tensor:
    head_dim = asked.shape[2]
    seen = (CSeen * len(ranges))()
    for number, (first, stop) in enumerate(ranges):
        bias = None if biases is None else biases[number].data_ptr()
        seen[number] = CSeen(
            cache[0].data_ptr(), cache[1].data_ptr(), cache.stride(1), head_dim, False, first, stop, bias
        )
    kind = CACHES.index("fp32" if cache.dtype == torch.float32 else "bf16")
    shape = CAttention(
        HEADS, KV_HEADS, head_dim, kind, head_dim**-0.5, softcap, None if sinks is None else sinks.data_ptr()
    )
    out = torch.empty(len(ranges), HEADS * head_dim)
    kernels.attention(shape, asked.data_ptr(), asked.stride(0), seen, out.data_ptr())
    return out


def exact(
    asked: Tensor, cache: Tensor, first: int, stop: int, softcap: float, sinks: Tensor | None, biases: Tensor | None
) -> Tensor:
    """One row in fp64."""
    keys, values = cache[:, :, first:stop].double().repeat_interleave(HEADS // KV_HEADS, 1)
    products = torch.einsum("hd,hpd->hp", asked.double(), keys) * asked.shape[1] ** -0.5
    products = softcap * torch.tanh(products / softcap) if softcap else products
    products = products if biases is None else products + biases.double()
    if sinks is not None:
        products = torch.cat((products, sinks.double()[:, None]), 1)
    return torch.einsum("hp,hpd->hd", products.softmax(-1)[:, : stop - first], values).flatten()


RANGES = [(0, 1), (0, 17), (0, 128), (0, 129), (100, 300), (127, 130), (0, 300), (250, 251), (3, 280)]
CASES = {
    "plain": (0.0, False, False),
    "capped": (5.0, False, False),
    "sinks": (0.0, True, False),
    "biases": (0.0, False, True),
    "all of it": (5.0, True, True),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("head_dim", "kind"), [(20, "bf16"), (64, "bf16"), (80, "fp32"), (8, "fp32")])
def test_one_set_of_bits_near_the_truth(kernels: Library, head_dim: int, kind: str, case: str) -> None:
    softcap, with_sinks, with_biases = CASES[case]
    asked, cache = queries(len(RANGES), head_dim), cached(head_dim, kind)
    sinks = torch.linspace(-1, 2, HEADS) if with_sinks else None
    biases = None
    if with_biases:
        biases = [torch.linspace(-3, 0, HEADS * (stop - first)).view(HEADS, -1).contiguous() for first, stop in RANGES]
    expected = None
    for path in kernels.paths():
        kernels.choose(path)
        for threads, together in ((1, 1), (2, len(RANGES)), (3, 4)):
            kernels.set_threads(threads)
            parts = []
            for at in range(0, len(RANGES), together):
                end = at + together
                own = None if biases is None else biases[at:end]
                parts.append(attend(kernels, asked[at:end], cache.clone(), RANGES[at:end], softcap, sinks, own))
            found = torch.cat(parts)
            expected = found if expected is None else expected
            assert torch.equal(found, expected), (path, threads, together)
    assert expected is not None
    for number, (first, stop) in enumerate(RANGES):
        own = None if biases is None else biases[number]
        truth = exact(asked[number], cache, first, stop, softcap, sinks, own)
        torch.testing.assert_close(expected[number].double(), truth, rtol=1e-4, atol=2e-5)


def test_golden_bits(kernels: Library) -> None:
    found = attend(kernels, queries(len(RANGES), 20), cached(20, "bf16"), RANGES, sinks=torch.linspace(-1, 2, HEADS))
    assert hashlib.sha256(found.numpy().tobytes()).hexdigest() == GOLDEN


def test_what_a_row_does_not_see_may_be_anything(kernels: Library) -> None:
    asked, cache = queries(len(RANGES), 20), cached(20, "bf16")
    expected = attend(kernels, asked, cache, RANGES)
    for number, (first, stop) in enumerate(RANGES):
        spoilt = cache.clone()
        spoilt[:, :, :first], spoilt[:, :, stop:] = torch.nan, torch.inf
        assert torch.equal(attend(kernels, asked[number : number + 1], spoilt, [(first, stop)])[0], expected[number])
