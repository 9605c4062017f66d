"""One GGUF file, mapped into memory. Its header is believed only as far as the file's own size bears it out.

The format (versions 2 and 3, little-endian): a magic, a version, counts; keys with typed values; for each tensor its name,
sizes (innermost first), type and offset; then data, aligned. Values that are arrays are stepped over, not read. Knows
nothing of models or of torch.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from pathlib import Path

from swarm.engine.tensorfile import MAX_HEADER_BYTES, Entry, TensorFile, map_file
from swarm.errors import ModelFault

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_DIMENSIONS = 4
MAX_NAME_BYTES = 1024
MAX_STRING_BYTES = 16 << 20  # chat templates are the longest
MAX_TENSORS = MAX_KEYS = 1 << 17
MAX_ALIGNMENT = 1 << 16
STRING, ARRAY = 8, 9
SCALARS: Mapping[int, str] = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
TYPES: Mapping[int, tuple[str, int, int]] = {  # number -> name, numbers in a block, bytes of a block
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    8: ("Q8_0", 32, 34),
    12: ("Q4_K", 256, 144),
    14: ("Q6_K", 256, 210),
    30: ("BF16", 1, 2),
}
Value = str | int | float | bool


def open_gguf(path: Path) -> tuple[TensorFile, dict[str, Value]]:
    """Map the file and check its header: its tensors, and its keys with those values that are no arrays.

    Raises ModelFault naming the file, and the tensor or key where one is at fault.
    """
    mapping, size = map_file(path, "GGUF")
    header = _Header(path, mapping, min(size, MAX_HEADER_BYTES))
    try:
        keys, claims = header.read()
    except _Short:
        raise ModelFault(f"{path}: its header does not end within the file's {size} bytes; it is truncated") from None
    except UnicodeDecodeError as error:
        raise ModelFault(f"{path}: its header is damaged: {error}") from error
    alignment = keys.get("general.alignment", 32)
    if type(alignment) is not int or not 8 <= alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
        raise ModelFault(f"{path}: general.alignment: {alignment!r} is no power of two from 8 to {MAX_ALIGNMENT}")
    start = -(-header.position // alignment) * alignment
    entries = {name: _entry(f"{path}: tensor {name}", claim, start, alignment, size) for name, claim in claims.items()}
    _check_apart(path, entries)
    return TensorFile(path, entries, mapping), keys


class _Short(Exception):
    """The header reaches beyond what there is of it."""


_Claim = tuple[tuple[int, ...], int, int]  # sizes, type, offset


class _Header:
    """Reads one header from front to back; no count in it is believed before the bytes were there."""

    def __init__(self, path: Path, mapping: mmap.mmap, limit: int) -> None:
        self.path = path
        self.mapping = mapping
        self.limit = limit
        self.position = 0

    def read(self) -> tuple[dict[str, Value], dict[str, _Claim]]:
        if self.take(4) != MAGIC:
            raise ModelFault(f"{self.path}: does not begin as a GGUF file; it is damaged or something else")
        version = self.number("<I")
        if version not in VERSIONS:
            raise ModelFault(f"{self.path}: version {version} of GGUF is not read; known: {VERSIONS}")
        tensors, keys = self.number("<Q"), self.number("<Q")
        if tensors > MAX_TENSORS or keys > MAX_KEYS:
            raise ModelFault(f"{self.path}: claims {tensors} tensors and {keys} keys; at most {MAX_TENSORS} of each")
        values: dict[str, Value] = {}
        for _ in range(keys):
            name = self.string(MAX_NAME_BYTES)
            value = self.value(name, self.number("<I"))
            if value is not None:
                values[name] = value
        claims: dict[str, _Claim] = {}
        for _ in range(tensors):
            name = self.string(MAX_NAME_BYTES)
            if name in claims:
                raise ModelFault(f"{self.path}: tensor {name}: stands in the header twice")
            dimensions = self.number("<I")
            if dimensions > MAX_DIMENSIONS:
                raise ModelFault(f"{self.path}: tensor {name}: {dimensions} dimensions; at most {MAX_DIMENSIONS}")
            sizes = tuple(self.number("<Q") for _ in range(dimensions))
            claims[name] = (sizes, self.number("<I"), self.number("<Q"))
        return values, claims

    def value(self, name: str, kind: int) -> Value | None:
        """None for an array, which is stepped over."""
        if kind == STRING:
            return self.string(MAX_STRING_BYTES)
        if kind != ARRAY:
            return self.scalar(name, kind)
        kind, count = self.number("<I"), self.number("<Q")
        if kind == STRING:
            for _ in range(count):  # ends where the header does: each takes eight bytes at least
                self.skip(self.number("<Q"))
            return None
        if kind not in SCALARS:
            raise ModelFault(f"{self.path}: key {name}: an array of type {kind} is not read")
        self.skip(count * struct.calcsize(SCALARS[kind]))
        return None

    def scalar(self, name: str, kind: int) -> Value:
        if kind not in SCALARS:
            raise ModelFault(f"{self.path}: key {name}: type {kind} is not known")
        value: Value = struct.unpack(SCALARS[kind], self.take(struct.calcsize(SCALARS[kind])))[0]
        return value

    def number(self, form: str) -> int:
        value: int = struct.unpack(form, self.take(struct.calcsize(form)))[0]
        return value

    def string(self, most: int) -> str:
        length = self.number("<Q")
        if length > most:
            raise ModelFault(f"{self.path}: claims a text of {length} bytes at byte {self.position}; at most {most}")
        return self.take(length).decode()

    def take(self, count: int) -> bytes:
        start = self.position
        self.skip(count)
        return self.mapping[start : self.position]

    def skip(self, count: int) -> None:
        if count > self.limit - self.position:
            raise _Short
        self.position += count


def _entry(label: str, claim: _Claim, start: int, alignment: int, size: int) -> Entry:
    sizes, kind, offset = claim
    if kind not in TYPES:
        known = ", ".join(name for name, _, _ in TYPES.values())
        raise ModelFault(f"{label}: GGUF type {kind} is not read; known: {known}")
    name, numbers, block_bytes = TYPES[kind]
    if not sizes or sizes[0] % numbers:
        raise ModelFault(f"{label}: sizes {list(sizes)} are not whole blocks of {numbers}, as {name} needs")
    if offset % alignment:
        raise ModelFault(f"{label}: offset {offset} is not a multiple of the alignment {alignment}")
    begin = start + offset
    end = begin + math.prod(sizes) // numbers * block_bytes
    if end > size:
        raise ModelFault(f"{label}: ends at byte {end}, but the file has {size}; it is truncated, fetch it again")
    return Entry(name, tuple(reversed(sizes)), begin, end)


def _check_apart(path: Path, entries: Mapping[str, Entry]) -> None:
    reached, previous = 0, ""
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin < reached:
            raise ModelFault(f"{path}: tensor {name} overlaps tensor {previous}")
        reached, previous = entry.end, name
