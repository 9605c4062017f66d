"""One model on disk, a directory or a GGUF file alike: `open_checkpoint(path)` gives what its files say, read as it is asked for.

Looking at a model's config, spec or tokenizer files loads no torch; `tensors` and `manifest` do.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swarm.checkpoint.config import config_place, read_config, read_ends
from swarm.checkpoint.gguf.model import folder_of, gguf_paths
from swarm.errors import ModelFault
from swarm.model.spec import CONFIG_FILE, ModelSpec
from swarm.model.tensor_names import Slot

if TYPE_CHECKING:
    from swarm.checkpoint.manifest import Manifest, Progress
    from swarm.checkpoint.stored_tensors import StoredTensors


class Checkpoint:
    """The files of one model. Every property and method raises ModelFault naming the file that is at fault."""

    def __init__(self, path: Path) -> None:
        self.path = path  # a directory, or a GGUF file
        self.folder = folder_of(path)  # where tokenizer.json and the other small files lie, if they are there

    def __repr__(self) -> str:
        return f"<Checkpoint {self.path}>"

    @cached_property
    def gguf_paths(self) -> list[Path]:
        """The GGUF files; empty where the weights are safetensors."""
        return gguf_paths(self.path)

    @cached_property
    def source(self) -> Path:
        """The file that says what the model is, and that errors name; it may be missing."""
        return config_place(self.path)

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """config.json, or what the GGUF files say in its place."""
        return read_config(self.path)

    @cached_property
    def end_ids(self) -> tuple[int, ...]:
        """The ids that end an answer by generation_config.json; some may lie outside the vocabulary."""
        return read_ends(self.path)

    @cached_property
    def spec(self) -> ModelSpec:
        return ModelSpec.from_config(self.config, str(self.source), self.end_ids)

    def tensors(self, optional_prefix: str = "", slots: Mapping[str, Slot] | None = None) -> StoredTensors:
        """The weights: names may begin with a prefix that is not in the files, some may lie within others, in their slots."""
        from swarm.checkpoint.stored_tensors import StoredTensors

        return StoredTensors.open(self.path, optional_prefix, slots)

    def manifest(self, progress: Progress | None = None, layer_count: int | None = None) -> Manifest:
        """The digests of the model and its tensors; see `swarm.checkpoint.manifest`."""
        from swarm.checkpoint.manifest import read_manifest

        return read_manifest(self.path, progress, layer_count)


def open_checkpoint(path: Path) -> Checkpoint:
    """Raises ModelFault where there is neither a directory nor a file of that name."""
    checkpoint = Checkpoint(Path(path))
    if not checkpoint.folder.is_dir():
        raise ModelFault(f"{path}: no such directory; a model is a directory with {CONFIG_FILE} and its weights")
    return checkpoint
