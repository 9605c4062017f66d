"""Tensors within others: experts on top of each other, each of which is read for itself.

A stack may be quantised in turn. Its format must then store every part as a stack of as many, so that what is made of
slices is a slice of what would be made of the whole.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass

from torch import Tensor

from swarm.checkpoint.formats.layout import PLAIN, Format, Layout, Part
from swarm.model.tensor_names import Shape, Slot


@dataclass(frozen=True, slots=True)
class Stacked:
    """Above the format of all else, if that has one."""

    slots: Mapping[str, Slot]
    format: Format | None
    left_out: str  # what names in slots begin with, and stored ones do not

    def layout(self, name: str, shape: Shape, stored: Container[str]) -> Layout | None:
        own, slot = self._beneath(name, shape, stored), self.slots.get(self.left_out + name)
        if own is not None or slot is None or name in stored:
            return own
        elsewhere = slot.name.removeprefix(self.left_out)
        whole = self._beneath(elsewhere, slot.shape, stored)
        whole = whole or Layout((Part(elsewhere, PLAIN, (slot.shape,)),), lambda tensor: tensor)
        return Layout(whole.parts, lambda *parts: _within(slot, whole, parts))

    def _beneath(self, name: str, shape: Shape, stored: Container[str]) -> Layout | None:
        return self.format.layout(name, shape, stored) if self.format is not None else None


def _within(slot: Slot, whole: Layout, parts: tuple[Tensor, ...]) -> Tensor:
    """Of a stack no more is made than the one tensor that is wanted."""
    if slot.place is None:
        return whole.dequantise(*parts)
    axis = (2 if slot.by_input else 1) if whole.outputs is None else whole.outputs
    cut = (slice(slot.place, slot.place + 1), *[slice(None)] * (axis - 1), slot.outputs)
    tensor = whole.dequantise(*(part[cut] for part in parts))[0]
    return tensor.T if slot.by_input else tensor
