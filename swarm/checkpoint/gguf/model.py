"""A model in GGUF: which files it is made of, and what all of them say together. Knows nothing of torch.

It is a file, which may be one of several that belong together, or a directory with the files of one model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from swarm.checkpoint.gguf.dialects import DIALECTS, Dialect
from swarm.checkpoint.gguf.file import Value, open_gguf
from swarm.checkpoint.safetensors_file import INDEX_FILE, SINGLE_FILE, Entry, TensorFile
from swarm.errors import ModelFault

SUFFIX = ".gguf"
MAX_PARTS = 4096
PROJECTOR = "mmproj"  # files whose names begin so turn images into rows, and lie beside the model
_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")


@dataclass(frozen=True, slots=True)
class GgufModel:
    """Its files by name, all open, and their keys; of a key that several files have the first file's value."""

    path: Path  # of the first file, which errors about keys name
    files: Mapping[str, TensorFile]
    file_of: Mapping[str, str]  # tensor -> file
    keys: Mapping[str, Value]

    def entry(self, tensor: str) -> Entry | None:
        return self.files[self.file_of[tensor]].entries[tensor] if tensor in self.file_of else None

    @property
    def architecture(self) -> str:
        return str(self.keys.get("general.architecture"))

    @property
    def dialect(self) -> Dialect:
        """Raises ModelFault naming those that are read."""
        if self.architecture not in DIALECTS:
            raise ModelFault(
                f"{self.path}: general.architecture: {self.architecture!r} is not read from GGUF; "
                f"known: {', '.join(DIALECTS)}"
            )
        return DIALECTS[self.architecture]


def folder_of(model: Path) -> Path:
    """Where the small files of a model lie: the directory itself, or that of the GGUF file."""
    return model.parent if model.suffix == SUFFIX and not model.is_dir() else model


def gguf_paths(model: Path) -> list[Path]:
    """The GGUF files of a model, or all that lie in a directory; empty where the model is in another format."""
    if model.is_dir():
        if (model / SINGLE_FILE).exists() or (model / INDEX_FILE).exists():
            return []
        paths = sorted(path for path in model.glob(f"*{SUFFIX}") if not path.name.startswith(PROJECTOR))
    elif part := _PART.fullmatch(model.name):
        paths = [model.with_name(f"{part[1]}-{number:05}-of-{part[3]}{SUFFIX}") for number in _numbers(model, part[3])]
    else:
        paths = [model] if model.suffix == SUFFIX else []
    if len(paths) > MAX_PARTS:
        raise ModelFault(f"{model}: holds more than {MAX_PARTS} GGUF files")
    return paths


def gguf_name(model: Path) -> str:
    """What a model in one GGUF file, or in several that belong together, is called."""
    part = _PART.fullmatch(model.name)
    return part[1] if part else model.stem


def open_model(model: Path) -> GgufModel:
    """Raises ModelFault naming the file, the tensor or the key."""
    paths = gguf_paths(model)
    if not paths:
        raise ModelFault(f"{model}: holds no GGUF file")
    _check_complete(paths)
    files: dict[str, TensorFile] = {}
    file_of: dict[str, str] = {}
    keys: dict[str, Value] = {}
    for path in paths:
        files[path.name], own = open_gguf(path)
        keys = own | keys
        for name in files[path.name].entries:
            if name in file_of:
                raise ModelFault(
                    f"{path}: tensor {name}: {file_of[name]} holds it too; of several files that each hold a "
                    f"whole model give the path of one"
                )
            file_of[name] = path.name
    return GgufModel(paths[0], files, file_of, keys)


def _numbers(model: Path, count: str) -> range:
    if not 1 <= int(count) <= MAX_PARTS:
        raise ModelFault(f"{model}: is named as one of {int(count)} files; a model has 1 to {MAX_PARTS}")
    return range(1, int(count) + 1)


def _check_complete(paths: list[Path]) -> None:
    """Of files that are numbered all are there."""
    sets = {part.groups()[::2]: path for path in paths if (part := _PART.fullmatch(path.name))}
    for path in sets.values():
        for other in gguf_paths(path):
            if not other.exists():
                raise ModelFault(f"{other}: this file of the model is missing; {path.name} belongs to it")
