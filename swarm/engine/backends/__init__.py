"""Who computes a model: our own engine, or the transformers library layer by layer. Either behind the same interfaces."""

from __future__ import annotations

from pathlib import Path

from swarm.checkpoint import open_checkpoint
from swarm.engine.backends.contract import Head, Model, Sizes, Stage
from swarm.engine.backends.own import OwnModel
from swarm.errors import ModelFault, UsageFault

__all__ = ["BACKENDS", "Head", "Model", "Sizes", "Stage", "open_model"]

BACKENDS = ("swarm", "transformers")
EXTRA = "pip install -c constraints.txt '.[transformers]' where swarm was installed from"


def open_model(directory: Path, backend: str = "swarm") -> Model:
    """A model's config, read; nothing is loaded. Raises ModelFault, UsageFault for a backend that is not there."""
    if backend == "swarm":
        return OwnModel.open(directory)
    if backend != "transformers":
        raise UsageFault(f"--backend {backend}: there is no such one; choose one of {', '.join(BACKENDS)}")
    _refuse_encoder(Path(directory))
    try:
        from swarm.engine.backends.library.model import LibraryModel
    except ImportError as error:
        raise UsageFault(f"--backend transformers: the library cannot be used here ({error}): {EXTRA}") from error
    return LibraryModel.open(directory)


def _refuse_encoder(directory: Path) -> None:
    """Raises ModelFault for a model that only our own engine computes, and computes."""
    try:
        checkpoint = open_checkpoint(directory)
        spec = checkpoint.spec
    except ModelFault:  # one that our engine does not know, or a directory that is none: the library says which
        return
    if spec.both_ways:
        raise ModelFault(
            f"{checkpoint.source}: {spec.architecture} is an encoder, and --backend transformers runs decoders only: "
            f"leave out --backend, swarm's own engine computes it"
        )
