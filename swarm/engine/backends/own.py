"""A model as our own engine computes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swarm.checkpoint import open_checkpoint
from swarm.checkpoint.manifest import Manifest, Progress, read_manifest
from swarm.checkpoint.own_precision import own_precision
from swarm.engine.caches.footprint import footprint
from swarm.engine.head import Head
from swarm.engine.loading.stored_sizes import stored_sizes
from swarm.engine.portable.choice import NumericsChoice, choose_numerics
from swarm.engine.stage import Stage
from swarm.model.spec import ModelSpec
from swarm.precision import AS_STORED
from swarm.span import LayerSpan


@dataclass(frozen=True, slots=True)
class OwnModel:
    """A model directory and the spec that its config.json gives."""

    directory: Path
    spec: ModelSpec

    @classmethod
    def open(cls, directory: Path) -> OwnModel:
        """Raises ModelFault naming the file and the field."""
        return cls(Path(directory), open_checkpoint(directory).spec)

    def manifest(self, progress: Progress | None = None) -> Manifest:
        return read_manifest(self.directory, progress)

    @property
    def own_precision(self) -> str:
        return own_precision(self.directory)

    def footprint(self, span: LayerSpan, precision: str, cache_rows: int = 0, with_head: bool = False) -> int:
        stored = stored_sizes(self.directory) if AS_STORED in precision else None
        return footprint(self.spec, span, precision, cache_rows, with_head, stored)

    def numerics(self, asked: str, precision: str, device: str) -> NumericsChoice:
        return choose_numerics(asked, precision, device, self.spec)

    def load_stage(
        self,
        span: LayerSpan | None = None,
        precision: str = "bf16",
        device: str = "cpu",
        cache_bytes: int | None = None,
        progress: Progress | None = None,
        numerics: str = "auto",
        held: Mapping[int, Any] | None = None,
    ) -> Stage:
        chosen = self.numerics(numerics, precision, device).numerics
        return Stage.load(self.directory, span, precision, device, cache_bytes, progress, chosen, held)

    def load_head(
        self,
        precision: str = "bf16",
        device: str = "cpu",
        progress: Progress | None = None,
        numerics: str = "auto",
    ) -> Head:
        return Head.load(
            self.directory, precision, device, progress, self.numerics(numerics, precision, device).numerics
        )
