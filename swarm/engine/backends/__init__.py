"""Who computes a model: our own engine, or the transformers library layer by layer. Either behind the same interfaces."""

from __future__ import annotations

from pathlib import Path

from swarm.engine.backends.contract import Head, Model, Sizes, Stage
from swarm.engine.backends.own import OwnModel
from swarm.errors import UsageFault

__all__ = ["BACKENDS", "Head", "Model", "Sizes", "Stage", "open_model"]

BACKENDS = ("swarm", "transformers")
EXTRA = "pip install -c constraints.txt '.[transformers]' where swarm was installed from"


def open_model(directory: Path, backend: str = "swarm") -> Model:
    """A model's config, read; nothing is loaded. Raises ModelFault, UsageFault for a backend that is not there."""
    if backend == "swarm":
        return OwnModel.open(directory)
    if backend != "transformers":
        raise UsageFault(f"--backend {backend}: there is no such one; choose one of {', '.join(BACKENDS)}")
    try:
        from swarm.engine.backends.library.model import LibraryModel
    except ImportError as error:
        raise UsageFault(f"--backend transformers: the library cannot be used here ({error}): {EXTRA}") from error
    return LibraryModel.open(directory)
