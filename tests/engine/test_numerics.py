"""Precisions, the settled thread count, and names of numerics classes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from swarm.engine import numerics
from swarm.engine.numerics import (
    MAX_CLASS_BYTES,
    PRECISIONS,
    kernel_path,
    numerics_class,
    precision_named,
    settle_threads,
)
from swarm.errors import UsageFault


@pytest.fixture
def unsettled(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    monkeypatch.setattr(numerics, "_settled", None)
    yield
    torch.set_num_threads(before)


def test_precisions_are_found_by_name() -> None:
    assert precision_named("bf16").dtype == torch.bfloat16
    assert precision_named("fp32").dtype == torch.float32
    with pytest.raises(UsageFault, match=r"int3.*fp32, bf16"):
        precision_named("int3")


@pytest.mark.parametrize("precision", PRECISIONS.values(), ids=PRECISIONS)
def test_a_class_names_what_decides_bits(
    precision: numerics.Precision, unsettled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    monkeypatch.setenv("MKL_CBWR", "AVX2,STRICT")
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    first = numerics_class(precision)
    assert first.isascii()
    assert len(first) <= MAX_CLASS_BYTES
    assert numerics_class(precision, torch.device("cpu")) == first
    assert {precision.name, "cpu", "t1", "avx2,strict"} <= set(first.split("/"))
    assert f"{kernel_path(precision)}{precision.tile}" in first
    seen = {first}
    torch.set_num_threads(2)
    seen.add(numerics_class(precision))
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    seen.add(numerics_class(precision))
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    seen.add(numerics_class(precision))
    assert len(seen) == 4


def test_precisions_are_classes_apart() -> None:
    assert len({numerics_class(precision) for precision in PRECISIONS.values()}) == len(PRECISIONS)


def test_devices_other_than_the_cpu_take_plain_kernels() -> None:
    assert all(kernel_path(precision, "cuda:1") == "plain" for precision in PRECISIONS.values())


def test_threads_are_settled_once(unsettled: None) -> None:
    assert settle_threads(1) == 1
    assert torch.get_num_threads() == 1
    assert settle_threads() == 1
    assert settle_threads(1) == 1
    with pytest.raises(UsageFault, match=r"--threads 2.*1 threads already"):
        settle_threads(2)


def test_threads_default_to_what_torch_chose(unsettled: None) -> None:
    assert settle_threads() == torch.get_num_threads()


def test_no_threads_are_refused(unsettled: None) -> None:
    with pytest.raises(UsageFault, match="--threads 0"):
        settle_threads(0)
