"""What is measured: a shape with random weights, or a model that is here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from swarm.bench.shapes import shape
from swarm.checkpoint import open_checkpoint
from swarm.checkpoint.locate import model_name
from swarm.engine import Head, Stage
from swarm.model.spec import ModelSpec
from swarm.records import ModelRef
from swarm.span import LayerSpan


@dataclass(frozen=True, slots=True)
class Subject:
    """Its layers and its head, for whoever measures them."""

    name: str
    spec: ModelSpec
    path: Path | None = None  # None: random weights

    @classmethod
    def of_shape(cls, name: str) -> Subject:
        """Raises UsageFault for an unknown one."""
        return cls(name, ModelSpec.from_config(shape(name)))

    @classmethod
    def of_model(cls, path: Path) -> Subject:
        """Raises ModelFault."""
        return cls(model_name(path), open_checkpoint(path).spec, path)

    @property
    def ref(self) -> ModelRef:
        """What stands for a checkpoint's digest among the processes of one benchmark."""
        return ModelRef(self.name, self.name.encode().ljust(32, b"\0")[:32], self.spec.layer_count)

    @property
    def options(self) -> tuple[str, ...]:
        """Of a worker process that is to hold layers of it."""
        return ("--shape", self.name) if self.path is None else ("--model", str(self.path))

    def head(self, precision: str, numerics: str) -> Head:
        if self.path is None:
            return Head.random(self.spec, precision, numerics=numerics)
        return Head.load(self.path, precision, numerics=numerics)

    def stage(self, span: LayerSpan, precision: str, numerics: str, cache_bytes: int) -> Stage:
        if self.path is None:
            return Stage.random(self.spec, span, precision, cache_bytes=cache_bytes, numerics=numerics)
        return Stage.load(self.path, span, precision, cache_bytes=cache_bytes, numerics=numerics)
