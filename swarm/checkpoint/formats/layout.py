"""What all formats share: how they say what is stored, and how they read their part of config.json."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from swarm.errors import ModelFault
from swarm.model.tensor_names import Shape

MAX_BLOCK = 1 << 24  # of one dimension of a block or group; beyond any matrix
PLAIN = ("F32", "BF16", "F16")  # dtypes of weights that are stored as they are
ALL_INPUTS = 0
SCALES = PLAIN  # and of scales


class BadPart(Exception):
    """A stored tensor holds a value that the format does not allow: its name, and what is wrong."""

    def __init__(self, name: str, complaint: str) -> None:
        super().__init__(name, complaint)
        self.name = name
        self.complaint = complaint


@dataclass(frozen=True, slots=True)
class Part:
    """A stored tensor, and what it must be: one of these dtypes and one of these shapes."""

    name: str
    dtypes: tuple[str, ...]  # as safetensors names them
    shapes: tuple[Shape, ...]


@dataclass(frozen=True, slots=True)
class StoredBlocks:
    """A matrix in blocks of whole numbers that share a scale: nothing of it is rounded.

    They are as llama.cpp lays them out, or `int4+zero` (a scale, a zero from 0 to 15, a byte of nothing, then for each 32 inputs
    16 bytes: input i in the lower half and i + 16 in the upper one) or `int8+shared` (a scale, int8). Scales are fp16.
    """

    kind: str  # as llama.cpp calls it: Q8_0, Q4_1
    rows: Tensor  # uint8 [outputs, bytes of a row's blocks], inputs ascending
    columns: int
    shared: int = 32  # inputs that share a scale, where the kind leaves that open; ALL_INPUTS: all


@dataclass(frozen=True, slots=True)
class Layout:
    """The stored tensors that a wanted one is made from, and how: `dequantise` takes them in order and gives floats.

    These are fp32, or others that hold the same numbers.
    """

    parts: tuple[Part, ...]
    dequantise: Callable[..., Tensor]  # may raise BadPart
    rows: Callable[..., Tensor] | None = None  # takes row numbers and then the tensors, and gives those rows alone
    blocks: Callable[..., StoredBlocks | None] | None = None  # takes the tensors too; None where they do not fit blocks
    block_kind: str = ""  # which these are of
    outputs: int | None = None  # of a stack of matrices: along which axis of all parts its outputs lie, if not its own


class Format(Protocol):
    """One way to store quantised weights, as one checkpoint uses it."""

    def layout(self, name: str, shape: Shape, stored: Container[str]) -> Layout | None:
        """How a tensor of that name and shape is stored; None where it is stored as it is."""


class Settings:
    """quantization_config, read field by field so that every complaint names its field."""

    def __init__(self, values: Mapping[str, Any], source: str) -> None:
        self.values = values
        self.source = source

    def fault(self, field: str, complaint: str) -> ModelFault:
        return ModelFault(f"{self.source}: {field}: {complaint}")

    def choice(self, field: str, known: tuple[Any, ...], default: Any = None) -> Any:
        """One of the known values; the default (which must be known too) where the field is absent or null."""
        value = self.values.get(field)
        value = default if value is None else value
        if not any(type(value) is type(each) and value == each for each in known):
            raise self.fault(field, f"{value!r} is not read; known: {', '.join(repr(each) for each in known)}")
        return value

    def size(self, field: str, value: Any) -> int:
        """A size of blocks or groups."""
        if type(value) is not int or not 1 <= value <= MAX_BLOCK:
            raise self.fault(field, f"{value!r} is no whole number from 1 to {MAX_BLOCK}")
        return value

    def group(self, field: str = "group_size") -> int | None:
        """How many inputs share a scale; -1 in the file, None here: all of them."""
        value = self.values.get(field)
        return None if type(value) is int and value == -1 else self.size(field, value)
