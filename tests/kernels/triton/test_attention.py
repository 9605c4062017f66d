"""Attention on a GPU: the bits of plain C, whatever caches hold and rows see."""

from __future__ import annotations

from ctypes import pointer

import pytest
import support.interpreted  # noqa: F401
import torch
from support.numbers import numbers_of, same_bits
from torch import Tensor

from swarm.kernels import Library
from swarm.kernels.library import CACHES, CSeen
from swarm.kernels.structures import CAttention
from swarm.kernels.triton import attention
from swarm.kernels.triton.attention import Attending, Seen

HEADS, KV_HEADS, DIM, POSITIONS = 3, 1, 12, 144
RANGES = [(0, 1), (3, 17), (126, 131)]
SCALE = 0.25


def whole(values: list[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def filled(kind: str) -> Tensor:
    """A cache of one head, [2, room], filled position by position."""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.int8}[kind]
    room = torch.zeros(2, POSITIONS * (DIM + (4 if kind == "int8" else 0)), dtype=dtype)
    rows = numbers_of(POSITIONS, 2 * DIM)
    rows[5] *= 1e-40
    attending = Attending(HEADS, KV_HEADS, DIM, CACHES.index(kind), SCALE, 0.0, None)
    for first, stop in RANGES:
        seen = seen_of(room, [(0, 1)] * (stop - first))
        attention.store(attending, rows[first:stop], 0, seen, torch.arange(first, stop))
    return room


def seen_of(room: Tensor, ranges: list[tuple[int, int]], biases: list[Tensor] | None = None) -> Seen:
    count = len(ranges)
    keys, values, strides = (whole([each] * count) for each in (room[0].data_ptr(), room[1].data_ptr(), 0))
    first, stop = whole([each[0] for each in ranges]), whole([each[1] for each in ranges])
    added = None if biases is None else whole([each.data_ptr() for each in biases])
    return Seen(keys, values, strides, first, stop, added, True, 0, 2)


@pytest.mark.parametrize(
    ("kind", "softcap", "sunk", "biased"),
    [("fp32", 0.0, False, False), ("bf16", 5.0, True, True), ("int8", 0.0, True, False), ("int8", 5.0, False, True)],
)
def test_one_set_of_bits(plain: Library, kind: str, softcap: float, sunk: bool, biased: bool) -> None:
    asked, room = numbers_of(len(RANGES), HEADS * DIM), filled(kind)
    sinks = torch.linspace(-1, 2, HEADS) if sunk else None
    biases = [torch.linspace(-3, 0, HEADS * (stop - first)) for first, stop in RANGES] if biased else None
    found, expected = torch.empty_like(asked), torch.empty_like(asked)
    shape = HEADS, KV_HEADS, DIM, CACHES.index(kind), SCALE, softcap
    attention.attend(Attending(*shape, sinks), asked, seen_of(room, RANGES, biases), found)
    seen = (CSeen * len(RANGES))()
    for number, (first, stop) in enumerate(RANGES):
        bias = None if biases is None else biases[number].data_ptr()
        seen[number] = CSeen(room[0].data_ptr(), room[1].data_ptr(), 0, DIM, 1, first, stop, bias)
    described = CAttention(*shape, None if sinks is None else sinks.data_ptr())
    plain.attention(pointer(described).contents, asked.data_ptr(), HEADS * DIM, seen, expected.data_ptr())
    assert same_bits(found, expected)
    assert torch.isfinite(found).all()
