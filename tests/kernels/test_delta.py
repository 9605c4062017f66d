"""The gated delta rule: as in fp64, and the same bits on every path, however rows are cut into calls and whoever is in them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from swarm.kernels import Library
from swarm.kernels.library import CACHES
from swarm.kernels.structures import CDelta, CPassage

ROWS = 75
EPS = 1e-5
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
# SHA-256 of what `ROWS` rows come to in ODD, with the state after them: other bits are another standard
GOLDEN = {
    "fp32": "90b9eddcd40f417e33d448a4e600dd3e3f725865663b8d64722e3de09ec6fa9f",
    "bf16": "cd50b5a2b16283698cfbf3bcc61eb4ca0cc8a7ab7e2a57bcb47f869f256fd9a9",
}


@dataclass(frozen=True)
class Shape:
    """Of a layer, with numbers for it."""

    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    taps: int

    @property
    def channels(self) -> int:
        return 2 * self.key_heads * self.key_dim + self.value_heads * self.value_dim

    @property
    def width(self) -> int:
        return self.channels + self.value_heads * (self.value_dim + 2)

    def weights(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Taps, rates, what is added to steps, and the norm's."""
        rates = -torch.linspace(0.02, 1.5, self.value_heads)
        step_bias, norm = (numbers_of(size + 1)[:size].clone() for size in (self.value_heads, self.value_dim))
        return numbers_of(self.taps, self.channels), rates, step_bias, norm


ODD, WIDE, PLAIN = Shape(2, 6, 36, 44, 4), Shape(1, 2, 64, 160, 2), Shape(3, 3, 16, 7, 1)


def numbers_of(*shape: int) -> Tensor:
    """Of whole numbers, since normal draws differ in their last digit between machines."""
    drawn = np.random.default_rng(sum(shape)).integers(-(1 << 15), 1 << 15, shape)
    return torch.from_numpy(drawn).float() / 16384


State = tuple[Tensor, Tensor]


def empty(shape: Shape, kind: str) -> State:
    window = torch.zeros(shape.taps - 1, shape.channels, dtype=DTYPES[kind])
    return window, torch.zeros(shape.value_heads, shape.key_dim, shape.value_dim)


def passed(
    kernels: Library, shape: Shape, kind: str, given: list[tuple[Tensor, State]], in_place: bool = False
) -> tuple[list[Tensor], list[State]]:
    """Rows of several sessions in one call, and their states after it."""
    weights, rows = shape.weights(), torch.cat([own for own, _ in given])
    sizes = shape.key_heads, shape.value_heads, shape.key_dim, shape.value_dim, shape.taps
    delta = CDelta(*sizes, CACHES.index(kind), EPS, *(each.data_ptr() for each in weights))
    before = [(window.clone(), memory.clone()) for _, (window, memory) in given]
    after = before if in_place else [(torch.full_like(one, 7), torch.full_like(other, 7)) for one, other in before]
    passages, first = (CPassage * len(given))(), 0
    for number, (own, _) in enumerate(given):
        passages[number] = CPassage(*(each.data_ptr() for each in (*before[number], *after[number])), first, len(own))
        first += len(own)
    out = torch.full((len(rows), shape.value_heads * shape.value_dim), 7.0)
    kernels.delta(delta, rows.data_ptr(), rows.stride(0), passages, out.data_ptr(), out.stride(0))
    return list(torch.split(out, [len(own) for own, _ in given])), after


def exact(shape: Shape, kind: str, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Answers and the memory after them, in fp64."""
    taps, rates, step_bias, norm = (each.double() for each in shape.weights())
    keys, values = shape.key_heads * shape.key_dim, shape.value_heads * shape.value_dim
    mixed, gates, strengths, steps = torch.split(
        rows.double(), [shape.channels, values, shape.value_heads, shape.value_heads], 1
    )
    window = torch.cat((torch.zeros(shape.taps - 1, shape.channels), mixed.to(DTYPES[kind]))).double()
    convolved = functional.silu(sum(window[tap : tap + len(rows)] * taps[tap] for tap in range(shape.taps)))  # type: ignore[arg-type]
    queries, found, value = torch.split(convolved, [keys, keys, values], 1)
    group, memory, answers = shape.value_heads // shape.key_heads, empty(shape, kind)[1].double(), []
    for row in range(len(rows)):
        q, k = (
            each[row].view(shape.key_heads, -1).repeat_interleave(group, 0) for each in (queries, found)
        )  # [value_heads, key_dim]
        q, k = (each * (each.square().sum(-1, keepdim=True) + 1e-6).rsqrt() for each in (q, k))
        memory = memory * (rates * functional.softplus(steps[row] + step_bias)).exp().view(-1, 1, 1)
        recalled = torch.einsum("hk,hkv->hv", k, memory)
        written = (value[row].view(shape.value_heads, -1) - recalled) * torch.sigmoid(strengths[row])[:, None]
        memory = memory + k[:, :, None] * written[:, None, :]
        answer = torch.einsum("hk,hkv->hv", q * shape.key_dim**-0.5, memory)
        answers.append(functional.rms_norm(answer, norm.shape, norm, EPS).flatten() * functional.silu(gates[row]))
    return torch.stack(answers), memory


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("shape", [ODD, WIDE, PLAIN], ids=str)
def test_one_set_of_bits_near_the_truth(kernels: Library, shape: Shape, kind: str) -> None:
    rows, other = numbers_of(ROWS, shape.width), numbers_of(9, shape.width)
    expected: tuple[Tensor, State] | None = None
    for path in kernels.paths():
        kernels.choose(path)
        for threads, cuts in ((1, [ROWS]), (3, [1, 1, 2, 33, 38]), (2, [40, 35])):
            kernels.set_threads(threads)
            state, parts = empty(shape, kind), []
            for number, own in enumerate(torch.split(rows, cuts)):
                company = [(other, empty(shape, kind))] * (number % 3)
                found, after = passed(kernels, shape, kind, [*company, (own, state)], in_place=bool(number % 2))
                parts, state = [*parts, found[-1]], after[-1]
            expected = expected or (torch.cat(parts), state)
            assert torch.equal(torch.cat(parts), expected[0]), (path, threads)
            assert all(torch.equal(*pair) for pair in zip(state, expected[1], strict=True)), (path, threads)
    assert expected is not None
    answers, memory = exact(shape, kind, rows)
    for ours, truth in ((expected[0], answers), (expected[1][1], memory)):
        assert float((ours - truth).abs().max() / truth.abs().max()) < 2e-6
    entered = rows[ROWS - shape.taps + 1 :, : shape.channels].to(DTYPES[kind])
    assert torch.equal(expected[1][0], entered)


@pytest.mark.parametrize("kind", DTYPES)
def test_golden_bits(kernels: Library, kind: str) -> None:
    found, ((window, memory),) = passed(kernels, ODD, kind, [(numbers_of(ROWS, ODD.width), empty(ODD, kind))])
    bits = b"".join(each.contiguous().view(torch.uint8).numpy().tobytes() for each in (found[0], window, memory))
    assert hashlib.sha256(bits).hexdigest() == GOLDEN[kind]


def test_what_is_no_number_stays_in_its_session(kernels: Library) -> None:
    rows, spoilt = numbers_of(5, ODD.width), numbers_of(5, ODD.width)
    spoilt[1, 0], spoilt[2, 1], spoilt[3] = torch.nan, torch.inf, spoilt[3] * 1e30
    alone = passed(kernels, ODD, "bf16", [(rows, empty(ODD, "bf16"))])[0][0]
    seen = []
    for path in kernels.paths():
        kernels.choose(path)
        given = [(own, empty(ODD, "bf16")) for own in (spoilt, rows)]
        (bad, good), _ = passed(kernels, ODD, "bf16", given)
        assert torch.equal(good, alone)
        assert bad[1:].isnan().any()
        seen.append(torch.where(bad.isnan(), 7e30, bad))
    assert all(torch.equal(each, seen[0]) for each in seen)
