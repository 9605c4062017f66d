"""Linear layers: a decode row has the same bits alone, at any place among any neighbours, and in a replay."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from swarm.engine.layers import linear as module
from swarm.engine.layers.linear import CALL_ROWS, SPARE_ROWS, Linear, agreeing, call_sizes
from swarm.engine.numerics import PRECISIONS, Precision

WIDTHS = [(48, 100), (100, 48), (128, 344), (344, 128), (2048, 96), (96, 2048), (8192, 48)]  # in, out
EXTREME = 1e30  # what a neighbour may hold: its own sums may overflow, nobody else's do


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture(params=["own", "plain"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "plain":
        monkeypatch.setattr(module, "kernel_path", lambda precision, device: "plain")
    return str(request.param)


def draw(rows: int, columns: int, precision: Precision, seed: int) -> Tensor:
    """Values of very different sizes: a sum of them shows the order in which it was added."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.randint(-12, 13, (rows, columns), generator=generator).exp2()
    return (torch.randn(rows, columns, generator=generator) * scale).to(precision.dtype)


def layer(inputs: int, outputs: int, precision: Precision, bias: bool = False) -> Linear:
    weight = draw(outputs, inputs, precision, 1)
    return Linear(weight, draw(1, outputs, precision, 2)[0] if bias else None, precision)


@pytest.mark.parametrize("precision", PRECISIONS.values(), ids=PRECISIONS)
@pytest.mark.parametrize(("inputs", "outputs"), WIDTHS)
def test_a_row_has_the_same_bits_alone_and_in_company(
    inputs: int, outputs: int, precision: Precision, threads: int, path: str
) -> None:
    linear = layer(inputs, outputs, precision, bias=outputs == 100)
    row = draw(1, inputs, precision, 3)
    alone = linear.decode(row)
    assert alone.isfinite().all()
    for rows, places in ((2, (0, 1)), (5, (4,)), (16, range(16)), (17, (0, 15, 16)), (64, (31, 63)), (75, (70, 74))):
        for place in places:
            company = draw(rows, inputs, precision, 100 * rows + place)
            company[(place + 1) % rows] = EXTREME
            company[place] = row
            assert torch.equal(linear.decode(company)[place : place + 1], alone), f"{rows} rows, place {place}"


@pytest.mark.parametrize("precision", PRECISIONS.values(), ids=PRECISIONS)
def test_a_replay_in_bulk_gives_the_bits_of_single_steps(precision: Precision, path: str) -> None:
    linear = layer(2048, 160, precision)
    rows = draw(64, 2048, precision, 4)
    steps = torch.cat([linear.decode(row) for row in rows.split(1)])
    for size in (1, 3, 7, 16, 20, 33, 64):
        assert torch.equal(torch.cat([linear.decode(part) for part in rows.split(size)]), steps)


@pytest.mark.parametrize("precision", PRECISIONS.values(), ids=PRECISIONS)
def test_bits_do_not_depend_on_how_rows_lie_in_memory(precision: Precision, path: str) -> None:
    linear = layer(100, 48, precision)
    rows = draw(20, 100, precision, 5)
    shifted = torch.empty(20 * 100 + 3, dtype=precision.dtype)[3:].view(20, 100).copy_(rows)
    strided = torch.empty(20, 164, dtype=precision.dtype)[:, 7:107].copy_(rows)
    for other in (shifted, strided):
        assert torch.equal(linear.decode(other), linear.decode(rows))
        assert torch.equal(linear.chunk(other), linear.chunk(rows))


@pytest.mark.parametrize("precision", PRECISIONS.values(), ids=PRECISIONS)
@pytest.mark.parametrize("rows", [1, 5, 33, 128])
def test_chunk_and_decode_compute_the_product(rows: int, precision: Precision, path: str) -> None:
    weight, bias = torch.randn(344, 100, dtype=precision.dtype), torch.randn(344, dtype=precision.dtype)
    linear, x = Linear(weight, bias, precision), torch.randn(rows, 100, dtype=precision.dtype)
    expected = functional.linear(x.double(), weight.double(), bias.double())
    tolerance = {"fp32": 1e-4, "bf16": 0.2}[precision.name]
    for result in (linear.chunk(x), linear.decode(x)):
        assert result.dtype == precision.dtype
        assert result.shape == (rows, 344)
        torch.testing.assert_close(result.double(), expected, atol=tolerance, rtol=1e-2)


@pytest.mark.parametrize("precision", PRECISIONS.values(), ids=PRECISIONS)
def test_threads_and_inference_mode_change_nothing(precision: Precision) -> None:
    linear, x = layer(2048, 128, precision), draw(40, 2048, precision, 6)
    here = linear.decode(x), linear.chunk(x)
    there: list[Tensor] = []

    def compute() -> None:
        with torch.inference_mode():
            there.extend((linear.decode(x), linear.chunk(x)))

    thread = threading.Thread(target=compute)
    thread.start()
    thread.join()
    assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))


def test_the_weight_is_held_once() -> None:
    weight = torch.randn(256, 128, dtype=torch.bfloat16)
    linear = Linear(weight, torch.zeros(256, dtype=torch.bfloat16), PRECISIONS["bf16"])
    assert linear.bytes == 256 * 128 * 2 + 256 * 2
    held = [value for value in vars(linear).values() if isinstance(value, Tensor) and value.numel() == 256 * 128]
    assert len(held) == 1
    assert "128->256 bf16" in repr(linear)


@pytest.mark.parametrize("precision", PRECISIONS.values(), ids=PRECISIONS)
def test_call_sizes_that_add_in_another_order_are_found(precision: Precision) -> None:
    weight = draw(48, 200, precision, 7).float()

    def product(x: Tensor, bias: Tensor | None) -> Tensor:
        cut = 100 if x.shape[0] in (2, 32) else 120
        same = functional.pad(x, (0, 0, 0, 64 - x.shape[0])).float()  # torch's own kernels must not make the difference
        total = same[:, :cut] @ weight[:, :cut].T + same[:, cut:] @ weight[:, cut:].T
        total = total if bias is None else total + bias.float()
        return total[: x.shape[0]].to(precision.dtype)

    found = agreeing(product, 200, precision)
    assert not {2, 32} & set(found)
    assert {4, 8, precision.tile, 64} <= set(found)


@pytest.mark.parametrize("sizes", [CALL_ROWS, CALL_ROWS[1:], (16,)])
def test_calls_cover_the_rows_with_few_spare_ones(sizes: tuple[int, ...]) -> None:
    assert call_sizes(0, sizes) == []
    for rows in range(1, 300):
        calls = call_sizes(rows, sizes)
        assert set(calls) <= set(sizes)
        assert sum(calls[:-1]) < rows <= sum(calls)
        assert sum(calls) - rows <= max(SPARE_ROWS, sizes[0] - 1)
    assert call_sizes(17, (2, 4, 8, 16, 32)) == [16, 2]
    assert call_sizes(24, (2, 4, 8, 16, 32)) == [32]
