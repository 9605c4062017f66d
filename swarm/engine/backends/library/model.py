"""A model as the transformers library computes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swarm.checkpoint.manifest import Manifest, Progress
from swarm.checkpoint.own_precision import own_precision
from swarm.engine.backends.library.head import LibraryHead
from swarm.engine.backends.library.outline import Outline, read_outline
from swarm.engine.backends.library.runner import manifest_of
from swarm.engine.backends.library.stage import LibraryStage
from swarm.engine.portable.choice import NumericsChoice
from swarm.errors import UsageFault
from swarm.span import LayerSpan


@dataclass(frozen=True, slots=True)
class LibraryModel:
    """A model directory and what the library says of its config.json."""

    directory: Path
    spec: Outline

    @classmethod
    def open(cls, directory: Path) -> LibraryModel:
        """Raises ModelFault naming the file and what of the model does not fit."""
        return cls(Path(directory), read_outline(directory))

    def manifest(self, progress: Progress | None = None) -> Manifest:
        return manifest_of(self.directory, self.spec, progress)

    @property
    def own_precision(self) -> str:
        return own_precision(self.directory)

    def footprint(self, span: LayerSpan, precision: str, cache_rows: int = 0, with_head: bool = False) -> int:
        return self.spec.footprint(span, precision, cache_rows, with_head)

    def numerics(self, asked: str, precision: str, device: str) -> NumericsChoice:
        """Its kernels are torch's, so there is nothing to choose."""
        return NumericsChoice("native" if asked == "auto" else asked)

    def load_stage(
        self,
        span: LayerSpan | None = None,
        precision: str = "bf16",
        device: str = "cpu",
        cache_bytes: int | None = None,
        progress: Progress | None = None,
        numerics: str = "auto",
        held: Mapping[int, Any] | None = None,
    ) -> LibraryStage:
        refuse_portable(numerics)
        return LibraryStage.load(self.spec, self.directory, span, precision, device, cache_bytes, progress)

    def load_head(
        self,
        precision: str = "bf16",
        device: str = "cpu",
        progress: Progress | None = None,
        numerics: str = "auto",
    ) -> LibraryHead:
        refuse_portable(numerics)
        return LibraryHead.load(self.spec, self.directory, precision, device, progress)


def refuse_portable(numerics: str) -> None:
    """Raises UsageFault: the library's kernels are torch's."""
    if numerics == "portable":
        raise UsageFault(
            f"--numerics {numerics}: only swarm's own engine computes so; leave out --backend transformers"
        )
