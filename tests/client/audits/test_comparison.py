"""Errors relative to what layers changed, and what honest peers of other numerics classes stay under."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from swarm.client.audits.comparison import TOLERANCES, floats, precision_of, recast, row_errors, tolerance_of
from swarm.wire.tensors import ITEM_BYTES, Tensor

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def wire(values: torch.Tensor, dtype: str = "fp32") -> Tensor:
    raw = values.to(DTYPES[dtype]).contiguous().view(torch.uint8).numpy().tobytes()
    return Tensor(dtype, tuple(values.shape), memoryview(raw))


def drawn(seed: int, rows: int = 20, hidden: int = 48) -> torch.Tensor:
    return torch.randn(rows, hidden, generator=torch.Generator().manual_seed(seed))


def test_an_input_returned_unchanged_has_exactly_one() -> None:
    x, b = drawn(1), drawn(2)
    assert row_errors(wire(x), wire(x), wire(x + b)).tolist() == [1.0] * 20
    assert row_errors(wire(x), wire(x + b), wire(x + b)).tolist() == [0.0] * 20


def test_noise_is_measured_by_what_was_changed_and_not_by_the_row() -> None:
    x, change, noise = 100 * drawn(1), drawn(2), drawn(3)
    noise *= 0.02 * change.norm(dim=1, keepdim=True) / noise.norm(dim=1, keepdim=True)
    errors = row_errors(wire(x), wire(x + change + noise), wire(x + change))
    assert np.allclose(errors, 0.02, rtol=0.02)


def test_what_changed_nothing_where_another_changed_something_is_infinitely_wrong() -> None:
    x = drawn(1)
    errors = row_errors(wire(x), wire(x + 1), wire(x))
    assert np.isinf(errors).all()
    assert row_errors(wire(x), wire(x), wire(x)).tolist() == [0.0] * 20


@pytest.mark.parametrize("dtype", ITEM_BYTES)
def test_rows_are_read_and_recast_as_torch_does(dtype: str) -> None:
    values = torch.cat([drawn(1), 1e-3 * drawn(2), torch.zeros(1, 48), torch.full((1, 48), -0.0), 1e4 * drawn(3)])
    tensor = wire(values, dtype)
    assert torch.equal(torch.from_numpy(floats(tensor).copy()), values.to(DTYPES[dtype]).float())
    for other in ITEM_BYTES:
        expected = values.to(DTYPES[dtype]).to(DTYPES[other])
        assert bytes(recast(tensor, other).data) == bytes(wire(expected, other).data)


def test_every_pair_of_precisions_has_a_tolerance() -> None:
    names = ("fp32", "bf16", "fp16", "int8")
    assert len(TOLERANCES) == len(names) * (len(names) + 1) // 2
    for one in names:
        for other in names:
            tolerance = tolerance_of(one, other)
            assert tolerance is not None
            assert 0 < tolerance.median < tolerance.maximum < 1 / 3  # of what leaving a row unchanged costs
    assert tolerance_of("fp32", "int3") is None
    assert precision_of("bf16/cpu/avx512/t2") == "bf16"


def test_a_tolerance_judges_by_median_and_by_the_worst_row() -> None:
    tolerance = TOLERANCES[frozenset({"bf16", "fp32"})]
    errors = np.full(100, tolerance.median / 2)
    assert tolerance.holds(errors)
    assert not tolerance.holds(errors * 3)
    errors[7] = 2 * tolerance.maximum
    assert not tolerance.holds(errors)


def test_the_last_digit_of_a_row_that_layers_hardly_change_is_let_pass() -> None:
    x, change = drawn(1), 0.05 * drawn(2)
    tolerance = TOLERANCES[frozenset({"bf16", "fp32"})]
    rounded, exact = wire(x + change, "bf16"), wire(x + change)
    assert np.median(row_errors(wire(x), rounded, exact)) > tolerance.median
    assert tolerance.holds(row_errors(wire(x), rounded, exact, tolerance.resolution))
    assert not tolerance.holds(row_errors(wire(x), wire(x), exact, tolerance.resolution))
