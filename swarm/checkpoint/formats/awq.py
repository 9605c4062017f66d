"""AWQ (quant_method "awq", version "gemm"): `X.qweight`, `X.qzeros` and `X.scales` instead of `X.weight`.

A word of 32 bits holds eight numbers, all of one input: qweight [inputs, outputs / 8], qzeros [groups, outputs / 8]. From
its lowest bits up these are outputs 0, 2, 4, 6, 1, 3, 5, 7 of the word's eight. A weight is (number - zero) * scale of
its group; neighbouring inputs form groups.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from torch import Tensor

from swarm.checkpoint.formats.layout import SCALES, Layout, Part, Settings
from swarm.checkpoint.formats.packing import Integers, group_of_each, groups_of, in_integers, unpack
from swarm.model.tensor_names import Shape

BITS = 4
PER_WORD = 8
PLACES = (0, 4, 1, 5, 2, 6, 3, 7)  # where in a word each of the eight outputs stands


@dataclass(frozen=True, slots=True)
class Awq:
    group_size: int | None

    @classmethod
    def from_settings(cls, settings: Settings) -> Awq:
        settings.choice("bits", (BITS,), BITS)
        settings.choice("version", ("gemm", "GEMM"), "gemm")
        settings.choice("zero_point", (True,), True)
        return cls(settings.group())

    def layout(self, name: str, shape: Shape, stored: Container[str]) -> Layout | None:
        base = name.removesuffix(".weight")
        if len(shape) != 2 or f"{base}.qweight" not in stored:
            return None
        outputs, inputs = shape
        groups, words = groups_of(inputs, self.group_size), -(-outputs // PER_WORD)
        parts = (
            Part(f"{base}.qweight", ("I32",), ((inputs, words),)),
            Part(f"{base}.qzeros", ("I32",), ((groups, words),)),
            Part(f"{base}.scales", SCALES, ((groups, outputs),)),
        )

        def integers(words: Tensor, zero_words: Tensor, scales: Tensor) -> Integers:
            numbers, zeros = _in_order(words)[:, :outputs], _in_order(zero_words)[:, :outputs]
            return Integers(numbers, zeros, scales, group_of_each(inputs, self.group_size))

        return in_integers(parts, integers, BITS, self.group_size)


def _in_order(words: Tensor) -> Tensor:
    numbers = unpack(words, BITS, 1)
    return numbers.view(words.shape[0], words.shape[1], PER_WORD)[..., list(PLACES)].flatten(1)
