"""One safetensors file, mapped into memory. Its header is believed only as far as the file's own size bears it out.

The format: a little-endian u64 with the header's length, the header (a JSON object: name -> dtype, shape, data_offsets),
then data, every byte of which belongs to exactly one tensor. Knows nothing of models or of torch.
"""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swarm.errors import ModelFault

SINGLE_FILE = "model.safetensors"  # as a directory calls its tensors
INDEX_FILE = "model.safetensors.index.json"  # or what says which of several files holds which
MAX_HEADER_BYTES = 100 << 20  # as in the reference implementation
MAX_DIMENSIONS = 8
POINTER = b"version https://git-lfs.github.com/spec/v1"  # what stands in a checkout for a file that was not fetched
ITEM_BYTES: Mapping[str, int] = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
    "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4,
    "I64": 8, "U64": 8, "F64": 8, "C64": 8,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one tensor lies in its file."""

    dtype: str  # as the header names it, such as "BF16"
    shape: tuple[int, ...]
    begin: int  # bytes from the start of the file
    end: int


class TensorFile:
    """The tensors of one file: `entries` by name, and `view(name)`, the bytes themselves, uncopied."""

    def __init__(self, path: Path, entries: Mapping[str, Entry], mapping: mmap.mmap) -> None:
        self.path = path
        self.entries = entries
        self._mapping = mapping

    def __repr__(self) -> str:
        return f"<TensorFile {self.path} of {len(self.entries)} tensors>"

    @classmethod
    def open(cls, path: Path) -> TensorFile:
        """Map the file and check its header. Raises ModelFault naming the file, and the tensor where one is at fault."""
        mapping, size = map_file(path, "safetensors")
        return cls(path, _parse_header(path, mapping, size), mapping)

    def view(self, name: str) -> memoryview:
        """The tensor's bytes in the file, little-endian and contiguous. It keeps the mapping alive."""
        entry = self.entries[name]
        return memoryview(self._mapping)[entry.begin : entry.end]

    def release(self, name: str) -> None:
        """Let go of the pages of a tensor that was read: they count as this process's memory no more. Who reads it again is
        given them anew, from the page cache or the file."""
        entry, page = self.entries[name], mmap.PAGESIZE
        begin, end = -(-entry.begin // page) * page, entry.end // page * page
        if begin < end and hasattr(mmap, "MADV_DONTNEED"):
            self._mapping.madvise(mmap.MADV_DONTNEED, begin, end - begin)


def map_file(path: Path, kind: str) -> tuple[mmap.mmap, int]:
    """The file as memory, and its size. Raises ModelFault naming the file."""
    try:
        with path.open("rb") as file:
            check_fetched(path, file.read(len(POINTER)))
            size = file.seek(0, 2)
            if size < 8:
                raise ModelFault(f"{path}: {size} bytes are too few for a {kind} file; it is truncated")
            # Copy-on-write, so that torch may take the buffer as it is; nobody writes to it
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), size
    except FileNotFoundError:
        raise ModelFault(f"{path}: this file of the model is missing") from None
    except OSError as error:
        raise ModelFault(f"{path}: cannot be read: {error.strerror}") from error


def check_fetched(path: Path, content: bytes) -> None:
    """Raises ModelFault if a file that begins like this stands for another that Git has not fetched."""
    if content.startswith(POINTER):
        raise ModelFault(f"{path}: is a Git LFS pointer, not the file itself: run `git lfs pull` in its directory")


def _parse_header(path: Path, mapping: mmap.mmap, size: int) -> dict[str, Entry]:
    length = int.from_bytes(mapping[:8], "little")
    if length > min(MAX_HEADER_BYTES, size - 8):
        raise ModelFault(
            f"{path}: claims a header of {length} bytes in a file of {size} (at most {MAX_HEADER_BYTES}); "
            f"it is truncated or damaged"
        )
    try:
        header = json.loads(mapping[8 : 8 + length], object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ModelFault(f"{path}: its header is damaged: {error}") from error
    if not isinstance(header, dict):
        raise ModelFault(f"{path}: its header is damaged: it must be a JSON object")
    header.pop("__metadata__", None)
    entries = {name: _parse_entry(f"{path}: tensor {name}", claim, 8 + length, size) for name, claim in header.items()}
    _check_cover(path, entries, 8 + length, size)
    return entries


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name stands in it twice")
    return result


def _parse_entry(label: str, claim: Any, start: int, size: int) -> Entry:
    if not isinstance(claim, dict) or not {"dtype", "shape", "data_offsets"} <= claim.keys():
        raise ModelFault(f"{label}: its entry in the header lacks dtype, shape or data_offsets")
    dtype, shape, offsets = claim["dtype"], claim["shape"], claim["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise ModelFault(f"{label}: dtype {dtype!r} is not known")
    if not _whole_numbers(shape) or len(shape) > MAX_DIMENSIONS:
        raise ModelFault(f"{label}: shape {shape!r} is none")
    if not _whole_numbers(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ModelFault(f"{label}: data_offsets {offsets!r} are none")
    begin, end = start + offsets[0], start + offsets[1]
    if end > size:
        raise ModelFault(f"{label}: ends at byte {end}, but the file has {size}; it is truncated, fetch it again")
    needed = math.prod(shape) * ITEM_BYTES[dtype]
    if end - begin != needed:
        raise ModelFault(f"{label}: {dtype} of shape {shape} takes {needed} bytes; the header gives it {end - begin}")
    return Entry(dtype, tuple(shape), begin, end)


def _whole_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(each) is int and 0 <= each < 1 << 63 for each in value)


def _check_cover(path: Path, entries: Mapping[str, Entry], start: int, size: int) -> None:
    """Tensors follow each other without overlap or gap, to the end of the file."""
    reached, previous = start, "the header"
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin < reached:
            raise ModelFault(f"{path}: tensor {name} overlaps {previous}")
        if entry.begin > reached:
            raise ModelFault(f"{path}: {entry.begin - reached} bytes before tensor {name} belong to no tensor")
        reached, previous = entry.end, f"tensor {name}"
    if reached != size:
        raise ModelFault(f"{path}: the last {size - reached} bytes belong to no tensor")
