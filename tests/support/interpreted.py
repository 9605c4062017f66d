"""Imported by tests of kernels that Triton's interpreter computes: where there is no Triton they are skipped."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("triton", reason="Triton is not installed here: it is a development dependency of Linux on x86-64")

from triton.runtime import interpreter


def exact_fma(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """`x * y + z` of binary32, rounded once: the product is exact in binary64, the sum is rounded there to odd (Boldo, Melquiond,
    "Emulation of FMA and correctly rounded sums", 2008), which rounding to binary32 then cannot spoil."""
    with np.errstate(all="ignore"):
        product, addend = x.astype(np.float64) * y.astype(np.float64), z.astype(np.float64)
        total = product + addend
        part = total - product
        error = (product - (total - part)) + (addend - part)
        words = np.atleast_1d(total).view(np.int64).reshape(np.shape(total))
        even = np.isfinite(total) & (error != 0) & (words & 1 == 0)
        odd = np.where(even, np.nextafter(total, np.where(error > 0, np.inf, -np.inf)), total)
        return odd.astype(np.float32)


def _create_fma(builder: object, x: Any, y: Any, z: Any) -> Any:
    """In the place of the interpreter's, which Triton 3.7 rounds twice."""
    assert x.data.dtype == y.data.dtype == z.data.dtype == np.float32
    return interpreter.TensorHandle(exact_fma(x.data, y.data, z.data), z.dtype.scalar)


interpreter.InterpreterBuilder.create_fma = _create_fma
