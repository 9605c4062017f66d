"""GPTQ (quant_method "gptq"): `X.qweight`, `X.qzeros`, `X.scales` and perhaps `X.g_idx` instead of `X.weight`.

Words of 32 bits hold 32 / bits numbers, lowest bits first: qweight [inputs / 8, outputs] along the inputs, qzeros
[groups, outputs / 8] along the outputs. A weight is (number - zero) * scale of its group. Which group an input is in
g_idx says (with desc_act they are in no order); without it neighbours form groups.

The first version of the format stores zeros less one: a whole word less 0x11111111 (0x01010101 with eight bits), so that a
zero of 0 borrows from its neighbour. The second (checkpoint_format "gptq_v2") does not; nor do some files that say they
are of the first. Where the settings say `sym` every zero is half the range, so that these are told apart.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from torch import Tensor

from swarm.checkpoint.formats.layout import SCALES, BadPart, Layout, Part, Settings
from swarm.checkpoint.formats.packing import Integers, group_of_each, groups_of, in_integers, unpack
from swarm.model.tensor_names import Shape

ONES = {4: 0x11111111, 8: 0x01010101}  # a one in each number of a word


@dataclass(frozen=True, slots=True)
class Gptq:
    bits: int
    group_size: int | None
    zeros_less_one: bool
    symmetric: bool

    @classmethod
    def from_settings(cls, settings: Settings) -> Gptq:
        bits = settings.choice("bits", (4, 8))
        version = settings.choice("checkpoint_format", ("gptq", "gptq_v2"), "gptq")
        symmetric = settings.choice("sym", (True, False), False)
        return cls(bits, settings.group(), version == "gptq", symmetric)

    def layout(self, name: str, shape: Shape, stored: Container[str]) -> Layout | None:
        base = name.removesuffix(".weight")
        if len(shape) != 2 or f"{base}.qweight" not in stored:
            return None
        outputs, inputs = shape
        groups, per_word = groups_of(inputs, self.group_size), 32 // self.bits
        parts: tuple[Part, ...] = (
            Part(f"{base}.qweight", ("I32",), ((-(-inputs // per_word), outputs),)),
            Part(f"{base}.qzeros", ("I32",), ((groups, -(-outputs // per_word)),)),
            Part(f"{base}.scales", SCALES, ((groups, outputs),)),
        )
        index = f"{base}.g_idx"
        if index in stored:
            parts += (Part(index, ("I32",), ((inputs,),)),)

        def integers(words: Tensor, zero_words: Tensor, scales: Tensor, group: Tensor | None = None) -> Integers:
            if group is None:
                group = group_of_each(inputs, self.group_size)
            elif inputs and not 0 <= int(group.min()) <= int(group.max()) < groups:
                raise BadPart(index, f"names a group outside the {groups} that there are")
            zeros = unpack(zero_words, self.bits, 1)[:, :outputs]
            as_they_are = self.symmetric and bool((zeros == 1 << (self.bits - 1)).all())
            if self.zeros_less_one and not as_they_are:
                zeros = unpack(zero_words + ONES[self.bits], self.bits, 1)[:, :outputs]
            return Integers(unpack(words, self.bits, 0)[:inputs], zeros, scales, group)

        return in_integers(parts, integers, self.bits, self.group_size)
