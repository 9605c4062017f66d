"""compressed-tensors (quant_method "compressed-tensors"): int8, int4 and float8 weights with their scales.

Two ways to store a weight: `X.weight_packed`, words of 32 bits with 32 / bits numbers along the inputs, lowest bits first,
each raised by half the range so that it is not negative; or `X.weight` itself as int8 or float8. `X.weight_scale` (and
`X.weight_zero_point` where it is not symmetric) has one column for each group of inputs, or one for all of them, or is a
single number. Zero points beside packed weights are packed likewise, along the outputs, unless there is a single one.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from swarm.checkpoint.formats.layout import SCALES, BadPart, Layout, Part, Settings
from swarm.checkpoint.formats.packing import Integers, group_of_each, groups_of, in_integers, unpack
from swarm.model.tensor_names import Shape

WAYS = ("pack-quantized", "int-quantized", "naive-quantized", "float-quantized")
MAX_GROUPS = 64


@dataclass(frozen=True, slots=True)
class Compressed:
    """One way for all quantised weights of a checkpoint."""

    bits: int
    kind: str  # int or float
    symmetric: bool
    strategy: str  # tensor, channel or group
    group_size: int | None

    @classmethod
    def from_settings(cls, settings: Settings) -> Compressed:
        _part(settings, "sparsity_config").choice("format", ("dense",), "dense")
        if settings.values.get("transform_config"):
            raise settings.fault("transform_config", "weights that inputs are transformed for are not read")
        groups = _part(settings, "config_groups")
        if not 1 <= len(groups.values) <= MAX_GROUPS:
            raise settings.fault("config_groups", f"{len(groups.values)} groups; at least 1, at most {MAX_GROUPS}")
        found = {cls._from_group(_part(groups, name), settings.values.get("format")) for name in groups.values}
        if len(found) > 1:
            raise settings.fault("config_groups", "groups that quantise weights in different ways are not read")
        return found.pop()

    @classmethod
    def _from_group(cls, group: Settings, way: Any) -> Compressed:
        group.choice("format", WAYS, way)
        weights = _part(group, "weights")
        kind = weights.choice("type", ("int", "float"), "int")
        bits = weights.choice("num_bits", (4, 8) if kind == "int" else (8,), 8)
        symmetric = weights.choice("symmetric", (True, False) if kind == "int" else (True,), True)
        grouped = weights.values.get("group_size") is not None
        strategy = weights.choice("strategy", ("tensor", "channel", "group"), "group" if grouped else "tensor")
        return cls(bits, kind, symmetric, strategy, weights.group() if strategy == "group" else None)

    def layout(self, name: str, shape: Shape, stored: Container[str]) -> Layout | None:
        if len(shape) != 2 or f"{name}_scale" not in stored:
            return None
        outputs, inputs = shape
        groups, per_word = groups_of(inputs, self.group_size), 32 // self.bits
        packed = f"{name}_packed" in stored
        scales: tuple[Shape, ...] = ((), (1,), (1, 1)) if self.strategy == "tensor" else ((outputs, groups),)
        if self.strategy == "channel":
            scales += ((outputs,),)
        if packed:
            first = Part(f"{name}_packed", ("I32",), ((outputs, -(-inputs // per_word)),))
        else:
            first = Part(name, ("I8",) if self.kind == "int" else ("F8_E4M3",), (shape,))
        parts = {"weight": first, "scale": Part(f"{name}_scale", SCALES, scales)}
        if not self.symmetric:
            along = packed and self.strategy != "tensor"
            zeros = Part(f"{name}_zero_point", ("I8",), scales)
            words = Part(f"{name}_zero_point", ("I32",), ((-(-outputs // per_word), groups),))
            parts["zero"] = words if along else zeros
        if f"{name}_g_idx" in stored:
            parts["group"] = Part(f"{name}_g_idx", ("I32",), ((inputs,),))
        if packed and f"{name}_shape" in stored:
            parts["shape"] = Part(f"{name}_shape", ("I64", "I32"), ((2,),))
        labels = list(parts)

        def integers(*tensors: Tensor) -> Integers:
            return self._integers(name, shape, groups, dict(zip(labels, tensors, strict=True)))

        if self.kind == "int":
            return in_integers(tuple(parts.values()), integers, self.bits, self.group_size)
        return Layout(tuple(parts.values()), lambda *tensors: integers(*tensors).dequantise())

    def _integers(self, name: str, shape: Shape, groups: int, given: dict[str, Tensor]) -> Integers:
        outputs, inputs = shape
        if "shape" in given and given["shape"].tolist() != list(shape):
            raise BadPart(f"{name}_shape", f"says {given['shape'].tolist()}, but the config asks for {list(shape)}")
        group = given.get("group", group_of_each(inputs, self.group_size))
        if inputs and not 0 <= int(group.min()) <= int(group.max()) < groups:
            raise BadPart(f"{name}_g_idx", f"names a group outside the {groups} that there are")
        weight, scales, half = given["weight"], given["scale"], 1 << (self.bits - 1)
        zeros = given.get("zero")
        if (
            weight.dtype.itemsize == 4
        ):  # packed, and raised by half the range; so are its zeros, unless it has one alone
            weight = unpack(weight, self.bits, 1)[:, :inputs]
            if zeros is None:
                zeros = weight.new_full((outputs, groups), half)
            elif zeros.dtype.itemsize == 4:
                zeros = unpack(zeros, self.bits, 0)[:outputs]
            else:
                zeros = zeros.int() + half
        zeros = scales.new_zeros(()) if zeros is None else zeros
        wide = (outputs, groups)
        return Integers(weight.T, _spread(zeros, wide).T, _spread(scales, wide).T, group)


def _spread(tensor: Tensor, shape: tuple[int, int]) -> Tensor:
    """A number for all, for each row or for each group of each row: for each group of each row."""
    return tensor.expand(shape) if tensor.dim() != 1 else tensor.unsqueeze(1).expand(shape)


def _part(settings: Settings, field: str) -> Settings:
    values = settings.values.get(field)
    if values is not None and not isinstance(values, dict):
        raise settings.fault(field, f"{values!r} is no object")
    return Settings(values or {}, f"{settings.source}: {field}")
