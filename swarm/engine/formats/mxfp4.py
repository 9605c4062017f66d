"""MXFP4 (quant_method "mxfp4"), as gpt-oss stores its experts: `X_blocks` and `X_scales` instead of `X`.

A block is 32 inputs of one output in 16 bytes, the first number of each byte in its lower half: sign, two exponent bits,
one mantissa bit. Its scale is one byte, a power of two raised by 127 (OCP Microscaling Formats, 2023). Stored are
[experts, outputs, blocks, 16] and [experts, outputs, blocks]; wanted is [experts, inputs, outputs].
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

import torch
from torch import Tensor

from swarm.engine.formats.layout import Layout, Part, Settings
from swarm.engine.naming import Shape

BLOCK = 32
VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
POWERS = (*(2.0 ** (exponent - 127) for exponent in range(255)), float("nan"))


@dataclass(frozen=True, slots=True)
class Mxfp4:
    @classmethod
    def from_settings(cls, settings: Settings) -> Mxfp4:
        return cls()

    def layout(self, name: str, shape: Shape, stored: Container[str]) -> Layout | None:
        if len(shape) != 3 or f"{name}_blocks" not in stored:
            return None
        experts, inputs, outputs = shape
        blocks = -(-inputs // BLOCK)
        parts = (
            Part(f"{name}_blocks", ("U8",), ((experts, outputs, blocks, BLOCK // 2),)),
            Part(f"{name}_scales", ("U8",), ((experts, outputs, blocks),)),
        )

        def dequantise(packed: Tensor, scales: Tensor) -> Tensor:
            result = torch.empty(experts, outputs, blocks, BLOCK)
            values, powers = torch.tensor(VALUES), torch.tensor(POWERS)
            for expert in range(experts):  # one at a time: what an index takes is as large as eight bytes a number
                for half in (0, 1):
                    index = (packed[expert] >> (4 * half)) & 15
                    result[expert, ..., half::2] = values[index.int()]
                result[expert].mul_(powers[scales[expert].int()].unsqueeze(-1))
            return result.flatten(2)[..., :inputs].transpose(1, 2)

        return Layout(parts, dequantise)
