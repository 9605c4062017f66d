"""A model's checkpoint: which file holds which tensor, and the tensors themselves, read only when they are asked for.

Knows nothing of layers: it is told names and shapes, and hands out views of memory-mapped files, or what a quantised
checkpoint's stored tensors are dequantised to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from swarm.checkpoint.formats import BadPart, Format, Layout, Part, Stacked, StoredBlocks
from swarm.checkpoint.found import missing, no_weights
from swarm.checkpoint.gguf.model import gguf_paths, open_model
from swarm.checkpoint.gguf.tensors import Ggml
from swarm.checkpoint.quantisation import read_format
from swarm.checkpoint.safetensors_file import INDEX_FILE, SINGLE_FILE, TensorFile
from swarm.checkpoint.small_files import read_json
from swarm.errors import ModelFault
from swarm.model.spec import ModelSpec
from swarm.model.tensor_names import Shape, Slot, head_tensors, layer_tensors

T = TypeVar("T")
MAX_INDEX_BYTES = 64 << 20
MAX_FILES = 4096
FLOATS: Mapping[str, torch.dtype] = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
STORED: Mapping[str, torch.dtype] = {  # what quantised weights are made from besides
    **FLOATS,
    "F8_E4M3": torch.float8_e4m3fn,
    "I8": torch.int8,
    "U8": torch.uint8,
    "I32": torch.int32,
    "I64": torch.int64,
}
OLDER = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}  # ends of names, and what they were


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a tensor, by their numbers."""

    rows: Callable[[Tensor], Tensor]
    count: int
    bytes: int = 0  # of memory that they take; none where they are read from the file as they are asked for

    @classmethod
    def of(cls, tensor: Tensor) -> Table:
        """Of one that lies in memory."""
        return cls(partial(_rows_as_they_are, tensor=tensor), tensor.shape[0], tensor.nbytes)


class StoredTensors:
    """The tensors of a model: a directory with a single file, shards with an index, or GGUF files; or a path of such a file.

    Shards are opened when first needed; of GGUF files the headers say which tensors they hold, so these are opened at once.
    """

    def __init__(self, directory: Path, file_of: Mapping[str, str], format: Format | None = None) -> None:
        self.directory = directory
        self.left_out = ""  # a prefix of names as they are wanted, that no name of these files has
        self.file_of = file_of  # tensor name -> file name
        self.format = format  # None: the weights are stored as they are
        self._files: dict[str, TensorFile] = {}  # at most MAX_FILES

    def __repr__(self) -> str:
        return f"<StoredTensors {self.directory} of {len(self.file_of)} tensors>"

    @classmethod
    def open(cls, directory: Path, optional_prefix: str = "", slots: Mapping[str, Slot] | None = None) -> StoredTensors:
        """Wanted names may begin with a prefix that is not in the files, and some may lie within others, in their slots.

        Raises ModelFault naming the missing or damaged file.
        """
        checkpoint = cls._open(Path(directory))
        if isinstance(checkpoint.format, Ggml):  # which knows the names as they are wanted, and how experts are stored
            return checkpoint
        if not any(name.startswith(optional_prefix) for name in checkpoint.file_of):
            checkpoint.left_out = optional_prefix
        left_out, slots = checkpoint.left_out, slots or {}
        if any(slot.always or slot.name.removeprefix(left_out) in checkpoint.file_of for slot in slots.values()):
            checkpoint.format = Stacked(slots, checkpoint.format, left_out)
        return checkpoint

    @classmethod
    def _open(cls, directory: Path) -> StoredTensors:
        if gguf_paths(directory):
            model = open_model(directory)
            checkpoint = cls(model.path.parent, model.file_of, Ggml.of(model))
            checkpoint._files = dict(model.files)
            return checkpoint
        format = read_format(directory)
        if (directory / SINGLE_FILE).exists():
            file = TensorFile.open(directory / SINGLE_FILE)
            checkpoint = cls(directory, dict.fromkeys(file.entries, SINGLE_FILE), format)
            checkpoint._files[SINGLE_FILE] = file
            return checkpoint
        if (directory / INDEX_FILE).exists():
            return cls(directory, _read_index(directory / INDEX_FILE), format)
        raise ModelFault(no_weights(directory))

    @property
    def order(self) -> Mapping[str, Any]:
        """What decides how tensors are read besides the config, and thus what model this is; empty where nothing does."""
        return self.format.order if isinstance(self.format, Ggml) else {}

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
                raise ModelFault(f"{missing(path)}; it holds tensor {name}")
            self._files[path.name] = TensorFile.open(path)
        file = self._files[path.name]
        if name not in file.entries:
            raise ModelFault(f"{path}: lacks tensor {name}, which the index says it holds")
        return file

    def check_all_read(self, spec: ModelSpec) -> None:
        """Raises ModelFault where GGUF files hold a tensor that such a model has no use for: what they mean is another model.

        (In other files such tensors are common, and config.json says what they mean.)
        """
        if not isinstance(self.format, Ggml):
            return
        if spec.layer_count > len(self.file_of):
            raise ModelFault(f"{self.directory}: {spec.layer_count} layers, but only {len(self.file_of)} tensors")
        wanted = head_tensors(spec)
        for layer in range(spec.layer_count):
            wanted |= layer_tensors(spec, layer)
        read = {part.name for name, shape in wanted.items() for part in self._layout(name, shape).parts}
        unread = [name for name in self.file_of if name not in read and self.format.has_use_for(name)]
        if unread:
            raise ModelFault(
                f"{self.path(unread[0])}: tensor {unread[0]}: {spec.architecture} has no use for it: this is another model"
            )

    def same(self, manifest: Mapping[str, str], name: str, other: str) -> bool | None:
        """Whether two tensors have the same bytes, by their digests; None where one of them is not stored by itself."""
        digests = [manifest.get(self._spelt(each)) for each in (name, other)]
        return None if None in digests else digests[0] == digests[1]

    def view(self, name: str) -> memoryview:
        """The bytes of a tensor in its file, uncopied."""
        return self.file(name).view(name)

    def release(self, name: str) -> None:
        """Let go of the pages of a stored tensor that was read."""
        self.file(name).release(name)

    def check(self, name: str, shape: Shape) -> dict[str, int]:
        """The stored tensors that a wanted one is made from, and their bytes, none of them read.

        Raises ModelFault naming file and tensor.
        """
        parts = self._layout(name, shape).parts
        for part in parts:
            self._check(part)
        return {part.name: len(self.view(part.name)) for part in parts}

    def tensor(self, name: str, shape: Shape) -> Tensor:
        """A tensor of floats: as it lies in its file, uncopied and not to be written to, or dequantised.

        Raises ModelFault naming file and tensor.
        """
        layout = self._layout(name, shape)
        return self._made(layout, layout.dequantise)

    def as_stored(self, name: str, shape: Shape, kinds: Container[str]) -> StoredBlocks | Tensor | None:
        """A matrix as its file holds it, in floats or in blocks of one of these kinds; None where floats have to be made from
        what is stored. Raises ModelFault naming file and tensor."""
        layout = self._layout(name, shape)
        if layout.blocks is not None:
            return self._made(layout, layout.blocks) if layout.block_kind in kinds else None
        if len(layout.parts) != 1 or self.file(layout.parts[0].name).entries[layout.parts[0].name].dtype not in FLOATS:
            return None
        return self._made(layout, layout.dequantise)

    def stored_size(self, name: str, shape: Shape) -> tuple[str, int] | None:
        """The kind that `as_stored` would give, and the bytes of it, none of them read; None where it would give none."""
        layout = self._layout(name, shape)
        first = layout.parts[0]
        entry = self.file(first.name).entries[first.name]
        if layout.blocks is None and (len(layout.parts) > 1 or entry.dtype not in FLOATS):
            return None
        bytes_ = sum(len(self.view(part.name)) for part in layout.parts)
        whole = math.prod(entry.shape)  # may hold others besides
        shared = math.prod(shape) < whole and len(layout.parts) == 1
        return entry.dtype, bytes_ * math.prod(shape) // whole if shared else bytes_

    def table(self, name: str, shape: Shape, dtype: torch.dtype) -> Table:
        """A matrix whose rows are read one by one, as `tensor` gives them; or all of them in that dtype, where its format
        is only read as a whole. Raises ModelFault naming file and tensor."""
        layout = self._layout(name, shape)
        if layout.rows is None:
            return Table.of(self.tensor(name, shape).to(dtype))
        tensors = [self._mapped(part) for part in layout.parts]
        return Table(lambda ids, read=layout.rows: read(ids, *tensors), shape[0])  # type: ignore[misc]

    def _made(self, layout: Layout, make: Callable[..., T]) -> T:
        """What a layout makes of its parts."""
        tensors = [self._mapped(part) for part in layout.parts]
        try:
            return make(*tensors)
        except BadPart as bad:
            raise ModelFault(f"{self.path(bad.name)}: tensor {bad.name}: {bad.complaint}") from None

    def _layout(self, name: str, shape: Shape) -> Layout:
        name = self._spelt(name)
        layout = self.format.layout(name, shape, self.file_of) if self.format is not None else None
        return layout or Layout((Part(name, tuple(FLOATS), (shape,)),), _as_it_is, _rows_as_they_are)

    def _spelt(self, name: str) -> str:
        """A wanted name as these files have it."""
        name = name.removeprefix(self.left_out)
        older = next((name.removesuffix(new) + old for new, old in OLDER.items() if name.endswith(new)), name)
        return older if older in self.file_of and name not in self.file_of else name

    def _check(self, part: Part) -> None:
        file = self.file(part.name)
        entry = file.entries[part.name]
        if entry.dtype not in part.dtypes:
            kinds = ", ".join(part.dtypes)
            raise ModelFault(f"{file.path}: tensor {part.name}: dtype {entry.dtype}; weights are one of {kinds}")
        if entry.shape not in part.shapes:
            wanted = " or ".join(str(list(shape)) for shape in part.shapes)
            raise ModelFault(
                f"{file.path}: tensor {part.name}: shape {list(entry.shape)}, but the config asks for {wanted}"
            )

    def _mapped(self, part: Part) -> Tensor:
        self._check(part)
        file = self.file(part.name)
        entry = file.entries[part.name]
        if not math.prod(entry.shape):
            return torch.empty(entry.shape, dtype=STORED.get(entry.dtype, torch.uint8))
        if entry.dtype not in STORED:  # blocks, which their format takes apart
            return torch.frombuffer(file.view(part.name), dtype=torch.uint8)
        return torch.frombuffer(file.view(part.name), dtype=STORED[entry.dtype]).view(entry.shape)


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


def _rows_as_they_are(ids: Tensor, tensor: Tensor) -> Tensor:
    return tensor.index_select(0, ids)


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
