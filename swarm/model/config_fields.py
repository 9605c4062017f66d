"""Reads one config.json field by field, so that every complaint names the file and the field. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from swarm.errors import ModelFault

MAX_SIZE = 1 << 24  # of one dimension; no known model comes near, and products of two stay far below 2^63
LARGEST = float(2**127)  # number; fp32 holds it
MAX_EOS_IDS = 64
# Where null is a statement of its own, not an omission
NULLABLE = ("sliding_window", "attn_logit_softcapping", "final_logit_softcapping", "head_dim", "num_key_value_heads")


class Fields:
    """What a config says, above what its family takes for granted."""

    def __init__(self, config: Mapping[str, Any], source: str, spellings: Mapping[str, str] | None = None) -> None:
        self.config = dict(config)
        self.source = source
        self.spellings = spellings or {}  # what its family calls fields -> what they are called here

    def over(self, defaults: Mapping[str, Any]) -> Fields:
        """The same with defaults for what is omitted."""
        said = {key: value for key, value in self.config.items() if value is not None or key in NULLABLE}
        known = {key: value for key, value in {**defaults, **said}.items() if value is not None}
        return Fields(known, self.source, self.spellings)

    def fault(self, field: str, complaint: str) -> ModelFault:
        stated = (theirs for theirs, ours in self.spellings.items() if ours == field and theirs in self.config)
        return ModelFault(f"{self.source}: {next(stated, field)}: {complaint}")

    def whole(self, field: str, default: int | None = None, most: int = MAX_SIZE, least: int = 1) -> int:
        value = self.config.get(field, default)
        if value is None:
            raise self.fault(field, "is missing")
        if type(value) is not int or not least <= value <= most:
            raise self.fault(field, f"{value!r} is no whole number from {least} to {most}")
        return value

    def number(self, field: str | float, mapping: Mapping[str, Any] | None = None) -> float:
        """A positive one, or what is settled already; out of `mapping`, if that is not the config itself."""
        if isinstance(field, float):
            return field
        value = (self.config if mapping is None else mapping).get(field)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= LARGEST:
            raise self.fault(field, f"{value!r} is no positive number")
        return float(value)

    def optional(self, field: str) -> float | None:
        """A positive number, or None where there is none."""
        return self.number(field) if field in self.config else None

    def flag(self, field: str | bool) -> bool:
        """A field's truth, or what is settled already."""
        if isinstance(field, bool):
            return field
        value = self.config[field]
        if type(value) is not bool:
            raise self.fault(field, f"{value!r} is neither true nor false")
        return value

    def choice(self, field: str, known: tuple[str, ...]) -> str:
        value = self.config.get(field)
        if value not in known:
            raise self.fault(field, f"{value!r} is not known; known: {', '.join(known)}")
        return str(value)

    def ids(self, field: str, vocab: int) -> tuple[int, ...]:
        value = self.config.get(field, [])
        ids = value if isinstance(value, list) else [value]
        if len(ids) > MAX_EOS_IDS or not all(type(each) is int and 0 <= each < vocab for each in ids):
            raise self.fault(field, f"{value!r} is not within the vocabulary of {vocab}")
        return tuple(ids)
