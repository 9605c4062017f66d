"""A model's checkpoint: which file holds which tensor, and the tensors themselves, read only when they are asked for.

Knows nothing of layers: it is told names, shapes and dtypes, and hands out views of memory-mapped files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from swarm.engine.spec import Shape, read_json
from swarm.engine.tensorfile import TensorFile
from swarm.errors import ModelFault

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
MAX_INDEX_BYTES = 64 << 20
MAX_FILES = 4096
FLOATS: Mapping[str, torch.dtype] = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


class Checkpoint:
    """The tensors of a model directory: a single file, or shards with an index. Shards are opened when first needed."""

    def __init__(self, directory: Path, file_of: Mapping[str, str]) -> None:
        self.directory = directory
        self.file_of = file_of  # tensor name -> file name
        self._files: dict[str, TensorFile] = {}  # at most MAX_FILES

    def __repr__(self) -> str:
        return f"<Checkpoint {self.directory} of {len(self.file_of)} tensors>"

    @classmethod
    def open(cls, directory: Path) -> Checkpoint:
        """Raises ModelFault naming the file that is missing or damaged."""
        directory = Path(directory)
        if (directory / SINGLE_FILE).exists():
            file = TensorFile.open(directory / SINGLE_FILE)
            checkpoint = cls(directory, dict.fromkeys(file.entries, SINGLE_FILE))
            checkpoint._files[SINGLE_FILE] = file
            return checkpoint
        if (directory / INDEX_FILE).exists():
            return cls(directory, _read_index(directory / INDEX_FILE))
        raise ModelFault(f"{directory}: holds neither {SINGLE_FILE} nor {INDEX_FILE}")

    @property
    def file_names(self) -> list[str]:
        return sorted(set(self.file_of.values()))

    def path(self, name: str) -> Path:
        """The file that holds a tensor. Raises ModelFault when none does."""
        if name not in self.file_of:
            raise ModelFault(f"{self.directory}: no file of the model holds tensor {name}")
        return self.directory / self.file_of[name]

    def file(self, name: str) -> TensorFile:
        """The open file that holds a tensor. Raises ModelFault."""
        path = self.path(name)
        if path.name not in self._files:
            if not path.exists():
                raise ModelFault(f"{path}: this file of the model is missing; it holds tensor {name}")
            self._files[path.name] = TensorFile.open(path)
        file = self._files[path.name]
        if name not in file.entries:
            raise ModelFault(f"{path}: lacks tensor {name}, which the index says it holds")
        return file

    def view(self, name: str) -> memoryview:
        """The bytes of a tensor in its file, uncopied."""
        return self.file(name).view(name)

    def tensor(self, name: str, shape: Shape) -> Tensor:
        """A tensor as it lies in its file, uncopied; not to be written to. Raises ModelFault naming file and tensor."""
        file = self.file(name)
        entry = file.entries[name]
        if entry.dtype not in FLOATS:
            raise ModelFault(f"{file.path}: tensor {name}: dtype {entry.dtype}; weights are one of {', '.join(FLOATS)}")
        if entry.shape != shape:
            raise ModelFault(
                f"{file.path}: tensor {name}: shape {list(entry.shape)}, but the config asks for {list(shape)}"
            )
        if not math.prod(shape):
            return torch.empty(shape, dtype=FLOATS[entry.dtype])
        return torch.frombuffer(file.view(name), dtype=FLOATS[entry.dtype]).view(shape)


def _read_index(path: Path) -> dict[str, str]:
    index = read_json(path, MAX_INDEX_BYTES)
    file_of = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(file_of, dict) or not file_of:
        raise ModelFault(f"{path}: weight_map is missing")
    for name, file in file_of.items():
        if not isinstance(file, str) or Path(file).name != file or not file.endswith(".safetensors"):
            raise ModelFault(f"{path}: weight_map: tensor {name}: {file!r} names no safetensors file beside the index")
    if len(set(file_of.values())) > MAX_FILES:
        raise ModelFault(f"{path}: weight_map: names more than {MAX_FILES} files")
    return file_of
