"""Whether two peers computed the same: bits in one numerics class, else an error relative to what the layers changed. Pure.

The error of a row is |a - b| / |b - x|, where x went in and a and b came out: layers add to their inputs, so that compared with b
alone a row that was left unchanged would pass for nearly right. Here it has 1. A few layers may change a row by a twentieth
of its length, and then the last rounding of the row is no small part of that: as much as a number's last digit makes of
b is let pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swarm.wire.tensors import Tensor

Errors = NDArray[np.float64]  # [rows]
_NARROW = 16  # bits by which bf16 is shorter than fp32


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What honest peers of two classes stay under, with room: beyond it at least one of them lies or is broken."""

    median: float  # of all rows' errors
    maximum: float  # of any row's
    resolution: float  # of the coarser of the two: let pass, relative to the row

    def holds(self, errors: Errors) -> bool:
        return bool(np.median(errors) <= self.median and errors.max() <= self.maximum)


# Measured on the demo model, spans of 1 to 24 layers, median and worst row without what is let pass: fp32 on other kernels 7e-7
# and 2e-6; bf16 against fp32 0.7 % and 1.5 % (with it, a single layer's worst row 6.8 %). int8 against floats elsewhere:
# 3 to 8 %. Anything that a liar saves work by is far above: an input returned unchanged has 1.
_FP32 = Tolerance(1e-5, 1e-4, 2**-23)
_HALF = Tolerance(0.02, 0.08, 2**-8)
_INT8 = Tolerance(0.12, 0.3, 2**-8)
_FLOATS = ("fp32", "bf16", "fp16")
TOLERANCES: dict[frozenset[str], Tolerance] = {
    frozenset({"fp32"}): _FP32,
    **{frozenset({one, other}): _HALF for one in _FLOATS for other in ("bf16", "fp16")},
    **{frozenset({one, "int8"}): _INT8 for one in (*_FLOATS, "int8")},
}


def precision_of(numerics: str) -> str:
    """A numerics class begins with its precision, or with the standard that its numbers follow: `portable-1:bf16`."""
    standard, _, precision = numerics.partition("/")[0].rpartition(":")
    return precision if standard or precision else numerics


def tolerance_of(one: str, other: str) -> Tolerance | None:
    """For two precisions; None where nobody has measured any."""
    return TOLERANCES.get(frozenset({one, other}))


def row_errors(inputs: Tensor, one: Tensor, other: Tensor, resolution: float = 0.0) -> Errors:
    """Infinite where `other` changed nothing and `one` something."""
    x, a, b = (floats(tensor).astype(np.float64) for tensor in (inputs, one, other))
    apart = np.maximum(0.0, np.linalg.norm(a - b, axis=1) - resolution * np.linalg.norm(b, axis=1))
    changed = np.linalg.norm(b - x, axis=1)
    errors: Errors = np.divide(apart, changed, out=np.where(apart == 0, 0.0, np.inf), where=changed > 0)
    return errors


def floats(tensor: Tensor) -> NDArray[np.float32]:
    """[rows, hidden]."""
    if tensor.dtype == "bf16":
        words = np.frombuffer(tensor.data, "<u2").astype(np.uint32) << _NARROW
        return words.view(np.float32).reshape(tensor.shape)
    kind = "<f4" if tensor.dtype == "fp32" else "<f2"
    return np.frombuffer(tensor.data, kind).astype(np.float32).reshape(tensor.shape)


def recast(tensor: Tensor, dtype: str) -> Tensor:
    """The same rows for a worker of another precision, rounded to nearest, ties to even."""
    if tensor.dtype == dtype:
        return tensor
    values = floats(tensor)
    made: NDArray[Any]
    if dtype == "bf16":
        words = values.view(np.uint32)
        odd = words >> _NARROW & 1
        made = ((words + 0x7FFF + odd) >> _NARROW).astype("<u2")
    else:
        made = values.astype("<f4" if dtype == "fp32" else "<f2")
    return Tensor(dtype, tensor.shape, memoryview(made.tobytes()))
