"""Arithmetic on ranges of transformer layers. Knows nothing of models, peers or tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from swarm.errors import LayerRange, UsageFault

MAX_LAYERS = 4096  # no known model comes near; bounds what a record or a message may claim


@dataclass(frozen=True, slots=True, order=True)
class LayerSpan:
    """The layers `start, start + 1, …, stop - 1`, counted from 0 as in checkpoints. Never empty."""

    start: int  # first layer
    stop: int  # one past the last layer

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop <= MAX_LAYERS:
            raise ValueError(f"no such span of layers: [{self.start}, {self.stop})")

    @classmethod
    def parse(cls, text: str) -> LayerSpan:
        """`"10-20"` means layers 10 to 20, both included; `"7"` one layer. Raises UsageFault."""
        match = re.fullmatch(r"\s*(\d{1,4})\s*(?:-\s*(\d{1,4})\s*)?", text)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last or last >= MAX_LAYERS:
            raise UsageFault(f"'{text}' is no range of layers: write FIRST-LAST, both included, such as 10-20")
        return cls(first, last + 1)

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.stop))

    def __contains__(self, layer: object) -> bool:
        return isinstance(layer, int) and self.start <= layer < self.stop

    def covers(self, other: LayerSpan) -> bool:
        """Whether every layer of `other` is in this span."""
        return self.start <= other.start and other.stop <= self.stop

    def intersection(self, other: LayerSpan) -> LayerSpan | None:
        """The layers in both spans, or None."""
        start, stop = max(self.start, other.start), min(self.stop, other.stop)
        return LayerSpan(start, stop) if start < stop else None

    def __str__(self) -> str:
        return f"{self.start}-{self.stop - 1}" if len(self) > 1 else f"{self.start}"


@dataclass(frozen=True, slots=True)
class AutoLayers:
    """Layers that the worker chooses: those the swarm lacks most."""

    most: int = MAX_LAYERS  # how many at most

    @classmethod
    def parse(cls, text: str) -> AutoLayers | LayerSpan:
        """`"auto"`, `"auto:20"` for 20 layers at most, or what `LayerSpan.parse` takes. Raises UsageFault."""
        match = re.fullmatch(r"\s*auto\s*(?::\s*(\d{1,4})\s*)?", text)
        if match is None:
            if text.strip().startswith("auto"):
                raise UsageFault(f"'{text}' is no choice of layers: write auto, or auto:20 for 20 layers at most")
            return LayerSpan.parse(text)
        most = int(match[1] or MAX_LAYERS)
        if not 1 <= most <= MAX_LAYERS:
            raise UsageFault(f"'{text}' is no choice of layers: a worker holds 1 to {MAX_LAYERS}")
        return cls(most)


def held_in_part(span: LayerSpan, bonds: Iterable[LayerSpan]) -> LayerSpan | None:
    """The first of these bonds, of each of which a span must hold all or nothing, that it cuts."""
    return next((bond for bond in bonds if span.intersection(bond) and not span.covers(bond)), None)


def missing_layers(spans: Iterable[LayerSpan], wanted: LayerRange) -> tuple[LayerSpan, ...]:
    """The parts of `wanted` that no span covers, in order."""
    missing: list[LayerSpan] = []
    reached = wanted.start
    for span in sorted(spans):
        if span.start >= wanted.stop:
            break
        if span.start > reached:
            missing.append(LayerSpan(reached, span.start))
        reached = max(reached, span.stop)
    if reached < wanted.stop:
        missing.append(LayerSpan(reached, wanted.stop))
    return tuple(missing)


def name_layers(spans: Iterable[LayerRange]) -> str:
    """`"layer 3"`, `"layers 3-5, 9"`: how messages name layers to a person."""
    parts = list(spans)
    plural = len(parts) > 1 or any(len(part) > 1 for part in parts)
    return ("layers " if plural else "layer ") + ", ".join(map(str, parts))
