"""The keys of a model in GGUF, each read as what it must be: what is not is an error that names file and key."""

from __future__ import annotations

import math
from typing import Any

from swarm.checkpoint.gguf.file import Array
from swarm.checkpoint.gguf.model import GgufModel
from swarm.errors import ModelFault
from swarm.model.config_fields import MAX_SIZE
from swarm.span import MAX_LAYERS


class Keys:
    """The keys of a model's architecture, each read as what it must be."""

    def __init__(self, model: GgufModel) -> None:
        self.path = model.path
        self.values = model.keys
        self.prefix = model.architecture

    def full(self, key: str) -> str:
        return key if key.startswith("tokenizer.") else f"{self.prefix}.{key}"

    def has(self, key: str) -> bool:
        return self.full(key) in self.values

    def shown(self, key: str) -> str:
        value = self.values[self.full(key)]
        return f"an array of {value.count}" if isinstance(value, Array) else repr(value)

    def fault(self, key: str, complaint: str) -> ModelFault:
        return ModelFault(f"{self.path}: {self.full(key)}: {complaint}")

    def whole(self, key: str, default: int | None = None, least: int = 0) -> int:
        """A whole number; one for each layer will do where they are all the same."""
        value = self.values.get(self.full(key), default)
        if value is None:
            raise self.fault(key, "is missing")
        if isinstance(value, Array):
            distinct = set(self.each_layer(key, value))
            if len(distinct) != 1:
                raise self.fault(key, f"{self.shown(key)}: layers that differ in this are not read")
            value = distinct.pop()
        if type(value) is not int or not least <= value <= MAX_SIZE:
            raise self.fault(key, f"{value!r} is no whole number from {least} to {MAX_SIZE}")
        return value

    def each_layer(self, key: str, value: Array) -> list[Any]:
        if value.count > MAX_LAYERS:
            raise self.fault(key, f"{self.shown(key)}, but a model has at most {MAX_LAYERS} layers")
        return value.numbers().tolist()

    def number(self, key: str, default: float | None = None) -> float:
        """A positive one."""
        value = self.values.get(self.full(key), default)
        if value is None:
            raise self.fault(key, "is missing")
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value <= 0:
            raise self.fault(key, f"{self.shown(key)} is no positive number")
        return float(value)

    def text(self, key: str) -> str | None:
        value = self.values.get(self.full(key))
        if value is not None and not isinstance(value, str):
            raise self.fault(key, f"{self.shown(key)} is no text")
        return value

    def flag(self, key: str) -> bool | None:
        value = self.values.get(self.full(key))
        if value is not None and not isinstance(value, bool):
            raise self.fault(key, f"{self.shown(key)} is neither true nor false")
        return value

    def array(self, key: str) -> Array | None:
        value = self.values.get(self.full(key))
        if value is not None and not isinstance(value, Array):
            raise self.fault(key, f"{value!r} is no array")
        return value
