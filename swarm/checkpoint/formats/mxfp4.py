"""MXFP4 (quant_method "mxfp4"), as gpt-oss stores its experts: `X_blocks` and `X_scales` instead of `X`.

A block is 32 inputs of one output in 16 bytes, the first number of each byte in its lower half: sign, two exponent bits,
one mantissa bit. Its scale is one byte, a power of two raised by 127 (OCP Microscaling Formats, 2023). Stored are
[experts, outputs, blocks, 16] and [experts, outputs, blocks]; wanted is [experts, inputs, outputs].
"""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass
from fnmatch import translate

import torch
from torch import Tensor

from swarm.checkpoint.formats.layout import Layout, Part, Settings
from swarm.model.tensor_names import Shape

BLOCK = 32
VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
PAIRS = [(VALUES[byte & 15], VALUES[byte >> 4]) for byte in range(256)]
POWERS = (*(2.0 ** (exponent - 127) for exponent in range(255)), float("nan"))
MAX_PATTERNS = 64
MAX_PATTERN = 256  # characters
KEPT = "modules_to_not_convert"


@dataclass(frozen=True, slots=True)
class Mxfp4:
    kept: tuple[re.Pattern[str], ...]  # modules that are stored as they are

    @classmethod
    def from_settings(cls, settings: Settings) -> Mxfp4:
        patterns = settings.values.get(KEPT) or []
        if not isinstance(patterns, list) or len(patterns) > MAX_PATTERNS:
            raise settings.fault(KEPT, f"must be a list of at most {MAX_PATTERNS} names of modules")
        for each in patterns:
            if not isinstance(each, str) or not 0 < len(each) <= MAX_PATTERN:
                raise settings.fault(KEPT, f"{each!r} is no name of up to {MAX_PATTERN} characters")
        # A module's whole name, its beginning or its end; translated, a star never looks back
        ways = ("{0}", "{0}.*", "*.{0}", "*.{0}.*")
        return cls(tuple(re.compile(translate(way.format(each))) for each in patterns for way in ways))

    def layout(self, name: str, shape: Shape, stored: Container[str]) -> Layout | None:
        ends = ("blocks", "scales")
        if len(shape) != 3 or not any(f"{name}_{end}" in stored for end in ends):
            return None
        if any(pattern.match(name) for pattern in self.kept):
            return None
        experts, inputs, outputs = shape
        blocks = -(-inputs // BLOCK)
        parts = (
            Part(f"{name}_blocks", ("U8",), ((experts, outputs, blocks, BLOCK // 2),)),
            Part(f"{name}_scales", ("U8",), ((experts, outputs, blocks),)),
        )
        return Layout(parts, lambda packed, scales: _dequantised(packed, scales)[..., :inputs].mT, outputs=1)


def _dequantised(packed: Tensor, scales: Tensor) -> Tensor:
    """[experts, outputs, inputs], in bf16, which has room for every product of a number and a power of two."""
    pairs, powers = torch.tensor(PAIRS, dtype=torch.bfloat16), torch.tensor(POWERS, dtype=torch.bfloat16)
    experts, outputs, blocks, _ = packed.shape
    result = torch.empty(experts, outputs, blocks, BLOCK, dtype=torch.bfloat16)
    for own, bytes_, exponents in zip(result, packed, scales, strict=True):  # what an index takes is large
        torch.index_select(pairs, 0, bytes_.int().flatten(), out=own.view(-1, 2))
        own.mul_(powers[exponents.int()].unsqueeze(-1))
    return result.flatten(2)
