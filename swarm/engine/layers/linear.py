"""One linear layer whose decode rows have the same bits alone, in a batch, and in a replay.

Knows nothing of models, caches or sessions: a weight, a bias, and the two ways in which rows are computed.

On CPU the weight is packed once for oneDNN (one copy, in blocks of 64 outputs that stream through the cores), and all
rows go through it, decode rows and chunks. Measured with torch 2.13 on a Zen 5 (AVX-512 with bf16 dot products, no AMX,
2 threads), at widths 48 to 14336, in bf16 and fp32:

- A row's bits did not depend on how many rows shared the call, from 2 to 128, on its place, its neighbours, its alignment,
  a bias, or the thread count (1 to 16). One row alone takes another kernel beyond 1024 inputs, and gets other bits.
- So decode rows run in calls of any size that is seen, when the layer is made, to give the bits of the tile (`agreeing`).
- Reading weights was the bound up to 4 rows (80 to 94 % of what a plain sum over memory reached), arithmetic at
  16 rows (50 %: 16 rows cost 1.8 times what one costs). Unpacked, torch reached 25 to 40 % in bf16 and, beyond one row, 20 %
  in fp32. Huge pages for the packed weights made no difference beyond noise.

Elsewhere torch chooses the kernels, and decode rows run in calls of exactly the tile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from swarm.engine.numerics import Precision, kernel_path

CALL_ROWS = (1, 2, 4, 8, 16, 32, 64)  # sizes of a call for decode rows: few, since oneDNN compiles a kernel for each
SPARE_ROWS = 8  # so many rows of zeros cost less than another pass over the weights
PROBES = 3  # rows that show whether two call sizes add in the same order
ALIGNMENT = 64  # bytes; libraries choose kernels by it
MAX_SEEN = 256  # shapes whose agreeing call sizes are remembered

Product = Callable[[Tensor, Tensor | None], Tensor]  # (rows, bias) -> rows
_seen: dict[tuple[object, ...], tuple[int, ...]] = {}


class Linear:
    """`x @ weight.T + bias`. Takes the weight over: on CPU a packed copy replaces it."""

    def __init__(self, weight: Tensor, bias: Tensor | None, precision: Precision) -> None:
        self.shape = (weight.shape[0], weight.shape[1])  # out, in
        self.precision = precision
        self.device = weight.device
        self.kernel = kernel_path(precision, weight.device)
        weight = _aligned(weight.detach().to(precision.dtype).contiguous())
        self._bias = None if bias is None else _aligned(bias.detach().to(precision.dtype).contiguous())
        self._weight = weight
        self._call_rows: tuple[int, ...] = (precision.tile,)
        if self.kernel == "onednn":
            self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, precision.tile)
            self._call_rows = self._agreeing_rows()

    def __repr__(self) -> str:
        return (
            f"<Linear {self.shape[1]}->{self.shape[0]} {self.precision.name} {self.kernel} calls of {self._call_rows}>"
        )

    @property
    def bytes(self) -> int:
        """Memory held by the weight and the bias."""
        weight = torch.ops.mkldnn._nbytes(self._weight) if self.kernel == "onednn" else self._weight.nbytes
        return int(weight) + (0 if self._bias is None else self._bias.nbytes)

    def decode(self, x: Tensor) -> Tensor:
        """Rows that each stand for themselves, [rows, in] -> [rows, out]: bits are those of a tile padded with zeros."""
        rows, start, outputs = x.shape[0], 0, []
        for size in call_sizes(rows, self._call_rows):
            part = x[start : start + size]
            if part.shape[0] < size:
                part = functional.pad(part, (0, 0, 0, size - part.shape[0]))
            outputs.append(self._product(_aligned(part.contiguous()), self._bias))
            start += size
        return (outputs[0] if len(outputs) == 1 else torch.cat(outputs))[:rows]

    def chunk(self, x: Tensor) -> Tensor:
        """Rows computed together in one call at exactly this shape, [rows, in] -> [rows, out]."""
        return self._product(_aligned(x.contiguous()), self._bias)

    def _product(self, x: Tensor, bias: Tensor | None) -> Tensor:
        if self.kernel == "plain":
            return functional.linear(x, self._weight, bias)
        torch.get_num_threads()  # a thread's first look at the count hands it to OpenMP, which oneDNN asks
        return torch.ops.mkldnn._linear_pointwise(x, self._weight, bias, "none", [], "")  # type: ignore[no-any-return]

    def _agreeing_rows(self) -> tuple[int, ...]:
        key = (*self.shape, self.precision, torch.get_num_threads())
        if key not in _seen:
            if len(_seen) >= MAX_SEEN:
                _seen.clear()
            _seen[key] = agreeing(self._product, self.shape[1], self.precision)
        return _seen[key]


def call_sizes(rows: int, sizes: Sequence[int]) -> list[int]:
    """Call sizes, out of ascending `sizes`, that cover the rows with little waste and few passes over the weights."""
    calls = []
    while rows > 0:
        enough = next((size for size in sizes if size >= rows), sizes[-1])
        less = [size for size in sizes if size <= rows]
        calls.append(less[-1] if less and enough > rows + SPARE_ROWS else enough)
        rows -= calls[-1]
    return calls


def agreeing(product: Product, columns: int, precision: Precision) -> tuple[int, ...]:
    """The sizes out of CALL_ROWS at which `product` gives a row the bits that it has in a tile.

    A kernel adds in an order that its shape decides, not the data, so rows are made to show that order: their terms
    differ by orders of magnitude, and the rounded sum is taken off again as a bias, which leaves what rounding to
    the precision would hide.
    """
    generator, sizes = torch.Generator().manual_seed(0), set(CALL_ROWS) | {precision.tile}
    with torch.inference_mode():
        for _ in range(PROBES):
            scale = torch.randint(-8, 9, (1, columns), generator=generator).exp2()
            row = (torch.randn(1, columns, generator=generator) * scale).to(precision.dtype)
            tile = row.repeat(precision.tile, 1)
            bias = product(tile, None)[0].neg()
            expected = product(tile, bias)[0]
            sizes = {size for size in sizes if bool((product(row.repeat(size, 1), bias) == expected).all())}
    return tuple(sorted(sizes | {precision.tile}))


def _aligned(tensor: Tensor) -> Tensor:
    return tensor.clone() if tensor.data_ptr() % ALIGNMENT else tensor
