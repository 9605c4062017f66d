"""From matrices as files hold them to linear layers: of just these numbers, or of numbers rounded to a precision.

Rows are packed from where they lie in the file, and none is held a second time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import torch
from torch import Tensor

from swarm.checkpoint.formats import StoredBlocks
from swarm.engine.numerics import Precision
from swarm.engine.portable.linear import PortableLinear
from swarm.engine.portable.packed import FLOATS, PackedWeight
from swarm.kernels import GROUP
from swarm.kernels.library import BLOCKS

Matrix = StoredBlocks | Tensor
CONVERTED = 1 << 20  # numbers at once


def height(matrix: Matrix) -> int:
    return matrix.shape[0] if isinstance(matrix, Tensor) else matrix.rows.shape[0]


def split(matrix: Matrix, heights: Sequence[int]) -> list[Matrix]:
    """Its rows in parts, of so many each."""
    starts = [sum(heights[:number]) for number in range(len(heights))]
    return [_taken(matrix, torch.arange(start, start + rows)) for start, rows in zip(starts, heights, strict=True)]


def stored_linear(
    matrices: Sequence[Matrix],
    heights: Sequence[int],
    columns: int,
    order: Tensor | None,
    bias: Tensor | None,
    precision: Precision,
) -> PortableLinear:
    """Matrices below each other, each in a height of its own, with zeros beyond; `order` says which of these rows come to
    stand where. Rows of one kind that then follow each other become one weight. Biases are fp32."""
    rows = torch.arange(sum(heights)) if order is None else order
    owners = torch.repeat_interleave(torch.arange(len(heights)), torch.tensor(heights))
    starts = torch.tensor([sum(heights[:number]) for number in range(len(heights))])
    owner = owners[rows]
    places, parts, first = rows - starts[owner], [], 0
    runs = [(number, len(list(run))) for number, run in groupby(owner.tolist())]
    for (kind, shared), same in groupby(runs, key=lambda run: _kind(matrices[run[0]], precision)):
        of_kind = list(same)
        part = PackedWeight.zeros(kind, sum(length for _, length in of_kind), columns, shared, precision.wide)
        at = 0
        for number, length in of_kind:
            own = places[first : first + length]
            _put(part, at, matrices[number], own[own < height(matrices[number])], precision)
            at, first = at + length, first + length
        parts.append(part)
    return PortableLinear(parts, bias, precision)


def _kind(matrix: Matrix, precision: Precision) -> tuple[str, int]:
    """The kind of weight that holds it, and how many inputs share a scale."""
    if not precision.stored:
        return precision.kind, GROUP
    return (FLOATS[matrix.dtype], GROUP) if isinstance(matrix, Tensor) else (BLOCKS[matrix.kind], matrix.shared)


def _put(part: PackedWeight, at: int, matrix: Matrix, places: Tensor, precision: Precision) -> None:
    chosen = _taken(matrix, places)
    if isinstance(chosen, Tensor):
        _put_floats(part, at, chosen, chosen.dtype if precision.stored else precision.weight_dtype)
    elif precision.stored:
        part.put_blocks(at, chosen)
    else:
        part.put_dequantised(at, chosen)


def _put_floats(part: PackedWeight, at: int, rows: Tensor, dtype: torch.dtype) -> None:
    """A few rows at a time where they are converted or laid out anew, so that what that takes stays small."""
    put = part.put_floats if part.kind in FLOATS.values() else part.put_rounded
    ready = rows.dtype == dtype and rows.is_contiguous()
    for few in [rows] if ready else torch.split(rows, max(1, CONVERTED // max(1, rows.shape[1]))):
        put(at, few.to(dtype))
        at += few.shape[0]


def _taken(matrix: Matrix, places: Tensor) -> Matrix:
    """Some rows, uncopied where they follow each other."""
    rows = matrix if isinstance(matrix, Tensor) else matrix.rows
    first = int(places[0]) if len(places) else 0
    if torch.equal(places, torch.arange(first, first + len(places))):
        rows = rows[first : first + len(places)]
    else:
        rows = rows.index_select(0, places)
    return rows if isinstance(matrix, Tensor) else replace(matrix, rows=rows)
