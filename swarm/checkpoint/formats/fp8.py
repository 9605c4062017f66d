"""FP8 with scales (quant_method "fp8"): `X.weight` as float8 e4m3, multiplied block by block with `X.weight_scale_inv`.

Blocks are rectangles, the last of each direction cut off by the matrix's edge; without weight_block_size one scale is
for the whole matrix. How activations were quantised in serving is of no concern here: the weights are all that is read.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from torch import Tensor

from swarm.checkpoint.formats.layout import SCALES, Layout, Part, Settings
from swarm.model.tensor_names import Shape


@dataclass(frozen=True, slots=True)
class BlockFp8:
    """Rows and columns of a block; None: one scale for the whole matrix."""

    block: tuple[int, int] | None

    @classmethod
    def from_settings(cls, settings: Settings) -> BlockFp8:
        settings.choice("fmt", ("e4m3", "float8_e4m3fn"), "e4m3")
        block = settings.values.get("weight_block_size")
        if block is None:
            return cls(None)
        if not isinstance(block, list) or len(block) != 2:
            raise settings.fault("weight_block_size", f"{block!r} is no pair of sizes")
        rows, columns = (settings.size("weight_block_size", each) for each in block)
        return cls((rows, columns))

    def layout(self, name: str, shape: Shape, stored: Container[str]) -> Layout | None:
        scale = f"{name}_scale_inv"
        if len(shape) != 2 or scale not in stored:
            return None
        scales: tuple[Shape, ...] = ((), (1,), (1, 1))
        if self.block is not None:
            rows, columns = self.block
            scales = ((-(-shape[0] // rows), -(-shape[1] // columns)),)
        return Layout((Part(name, ("F8_E4M3",), (shape,)), Part(scale, SCALES, scales)), self._dequantise)

    def _dequantise(self, weight: Tensor, scale: Tensor) -> Tensor:
        result, scale = weight.float(), scale.float()
        if self.block is None:
            return result.mul_(scale.reshape(()))
        rows, columns = self.block
        columns = min(columns, result.shape[1])  # a block wider than the matrix takes no more memory than it
        wide = scale.repeat_interleave(columns, 1)[:, : result.shape[1]]
        for index, row in enumerate(wide):  # one band of blocks at a time: the scales are never spread over all rows
            result[index * rows : (index + 1) * rows].mul_(row)
        return result
