"""Attention: as in fp64, and the same bits on every path, however rows are taken together and wherever a row's cache lies."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

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
INT8_GOLDEN = "48aa0927f9724625ab25b7bfa423bd850d89db2b9c4cae40fbb3868d799f2178"  # of the same rows in bytes
TILE, TILES = 16, 19


def numbers_of(*shape: int) -> Tensor:
    """Of whole numbers, since normal draws differ in their last digit between machines."""
    drawn = np.random.default_rng(sum(shape)).integers(-(1 << 15), 1 << 15, shape)
    return torch.from_numpy(drawn).float() / 16384


def cached(head_dim: int, kind: str) -> Tensor:
    """[2, kv_heads, positions, head_dim]"""
    numbers = numbers_of(2, KV_HEADS, POSITIONS, head_dim)
    return numbers.to(torch.bfloat16 if kind == "bf16" else torch.float32)


@dataclass(frozen=True)
class Bytes:
    """The same numbers as a cache of bytes holds them, in tiles: keys [head_dim, 16], values [16, head_dim], and their steps."""

    held: Tensor  # int8 [2, kv_heads, TILES, 16 * (head_dim + 4)]
    exact: Tensor  # fp64 [2, kv_heads, positions, head_dim]

    @classmethod
    def of(cls, numbers: Tensor) -> Bytes:
        head_dim = numbers.shape[3]
        most = numbers.abs().amax(3, keepdim=True)
        steps = most * torch.tensor(1 / 127, dtype=torch.float32)
        whole = (numbers * (127 / most)).round().nan_to_num()
        rows = torch.full((2, KV_HEADS, TILES * TILE, head_dim), 99, dtype=torch.int8)
        rows[:, :, :POSITIONS] = whole.to(torch.int8)
        behind = torch.full((2, KV_HEADS, TILES * TILE), torch.nan)
        behind[:, :, :POSITIONS] = steps[..., 0]
        tiled = rows.view(2, KV_HEADS, TILES, TILE, head_dim)
        tiled = torch.stack((tiled[0].transpose(2, 3).flatten(2), tiled[1].flatten(2)))
        held = torch.cat((tiled, behind.view(2, KV_HEADS, TILES, TILE).view(torch.int8)), 3)
        return cls(held.contiguous(), whole.double() * steps.double())


def queries(rows: int, head_dim: int) -> Tensor:
    return numbers_of(rows, HEADS, head_dim)


def attend(
    kernels: Library,
    asked: Tensor,
    cache: Tensor | Bytes,
    ranges: Sequence[tuple[int, int]],
    softcap: float = 0.0,
    sinks: Tensor | None = None,
    biases: Sequence[Tensor] | None = None,
) -> Tensor:
    head_dim, held = asked.shape[2], cache.held if isinstance(cache, Bytes) else cache
    seen = (CSeen * len(ranges))()
    for number, (first, stop) in enumerate(ranges):
        bias = None if biases is None else biases[number].data_ptr()
        places = held[0].data_ptr(), held[1].data_ptr(), held.stride(1)
        seen[number] = CSeen(*places, head_dim, isinstance(cache, Bytes), first, stop, bias)
    kind = CACHES.index({torch.float32: "fp32", torch.bfloat16: "bf16", torch.int8: "int8"}[held.dtype])
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
@pytest.mark.parametrize(
    ("head_dim", "kind"), [(20, "bf16"), (64, "bf16"), (80, "fp32"), (8, "fp32"), (20, "int8"), (64, "int8")]
)
def test_one_set_of_bits_near_the_truth(kernels: Library, head_dim: int, kind: str, case: str) -> None:
    softcap, with_sinks, with_biases = CASES[case]
    asked, numbers = queries(len(RANGES), head_dim), cached(head_dim, kind)
    cache = Bytes.of(numbers) if kind == "int8" else numbers
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
                parts.append(attend(kernels, asked[at:end], _copied(cache), RANGES[at:end], softcap, sinks, own))
            found = torch.cat(parts)
            expected = found if expected is None else expected
            assert torch.equal(found, expected), (path, threads, together)
    assert expected is not None
    for number, (first, stop) in enumerate(RANGES):
        own = None if biases is None else biases[number]
        truth = exact(
            asked[number], cache.exact if isinstance(cache, Bytes) else cache, first, stop, softcap, sinks, own
        )
        torch.testing.assert_close(expected[number].double(), truth, rtol=1e-4, atol=2e-5)


def _copied(cache: Tensor | Bytes) -> Tensor | Bytes:
    """Elsewhere in memory."""
    return Bytes(cache.held.clone(), cache.exact) if isinstance(cache, Bytes) else cache.clone()


def test_golden_bits(kernels: Library) -> None:
    for cache, golden in ((cached(20, "bf16"), GOLDEN), (Bytes.of(cached(20, "int8")), INT8_GOLDEN)):
        found = attend(kernels, queries(len(RANGES), 20), cache, RANGES, sinks=torch.linspace(-1, 2, HEADS))
        assert hashlib.sha256(found.numpy().tobytes()).hexdigest() == golden


@pytest.mark.parametrize("kind", ["bf16", "int8"])
def test_what_a_row_does_not_see_may_be_anything(kernels: Library, kind: str) -> None:
    asked, cache = queries(len(RANGES), 20), cached(20, kind)

    def kept(numbers: Tensor) -> Tensor | Bytes:
        return Bytes.of(numbers) if kind == "int8" else numbers

    expected = attend(kernels, asked, kept(cache), RANGES)
    for number, (first, stop) in enumerate(RANGES):
        spoilt = cache.clone()
        spoilt[:, :, :first], spoilt[:, :, stop:] = torch.nan, torch.inf
        found = attend(kernels, asked[number : number + 1], kept(spoilt), [(first, stop)])
        assert torch.equal(found[0], expected[number])


@pytest.mark.parametrize("part", [0, 1], ids=["keys", "values"])
def test_bytes_without_a_step_are_no_numbers(kernels: Library, part: int) -> None:
    """Of a position whose key or value was none."""
    cache, asked = Bytes.of(cached(20, "int8")), queries(len(RANGES), 20)
    cache.held[part, 0, 1, TILE * 20 :].view(torch.float32)[3] = torch.nan  # head 0, position 19
    for path in kernels.paths():
        kernels.choose(path)
        rows = attend(kernels, asked, cache, RANGES).view(len(RANGES), KV_HEADS, -1)
        spoilt = torch.tensor([first <= 19 < stop for first, stop in RANGES])
        assert torch.equal(rows[:, 0].isnan().all(1), spoilt), path
        assert torch.isfinite(rows[:, 1]).all()
