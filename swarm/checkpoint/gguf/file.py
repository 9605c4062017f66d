"""One GGUF file, mapped into memory. Its header is believed only as far as the file's own size bears it out.

The format (versions 2 and 3, little-endian): a magic, a version, counts; keys with typed values; for each tensor its name,
sizes (innermost first), type and offset; then data, aligned. Arrays are stepped over, and read when they are asked for.
Knows nothing of models or of torch.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swarm.checkpoint.safetensors_file import MAX_HEADER_BYTES, Entry, TensorFile, map_file
from swarm.errors import ModelFault

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_DIMENSIONS = 4
MAX_NAME_BYTES = 1024
MAX_STRING_BYTES = 16 << 20  # chat templates are the longest
MAX_TENSORS = MAX_KEYS = 1 << 17
MAX_ALIGNMENT = 1 << 16
MAX_EXACT = 1e38  # fp32 numbers beyond are taken as they are
FLOAT, STRING, ARRAY = 6, 8, 9
SCALARS: Mapping[int, str] = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
TYPES: Mapping[int, tuple[str, int, int]] = {  # number -> name, numbers in a block, bytes of a block
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    20: ("IQ4_NL", 32, 18),
    23: ("IQ4_XS", 256, 136),
    30: ("BF16", 1, 2),
    39: ("MXFP4", 32, 17),
}
UNREAD: Mapping[int, str] = {  # ggml's other types (enum ggml_type in ggml.h), so that errors can name them
    4: "Q4_2", 5: "Q4_3", 9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 21: "IQ3_S",
    22: "IQ2_S", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 31: "Q4_0_4_4", 32: "Q4_0_4_8",
    33: "Q4_0_8_8", 34: "TQ1_0", 35: "TQ2_0", 36: "IQ4_NL_4_4", 37: "IQ4_NL_4_8", 38: "IQ4_NL_8_8",
}  # fmt: skip
_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Array:
    """An array among a file's keys. It lies in the file until it is asked for; its header was found to hold all of it."""

    label: str  # file and key
    kind: int  # STRING, or one of SCALARS
    count: int
    _bytes: memoryview

    def texts(self) -> list[str]:
        """Raises ModelFault naming file and key, also where these are no texts."""
        if self.kind != STRING:
            raise ModelFault(f"{self.label}: holds no texts, but type {self.kind}")
        found, position = [], 0
        for number in range(self.count):
            start = position + _LENGTH.size
            position = start + _LENGTH.unpack_from(self._bytes, position)[0]
            try:
                found.append(str(self._bytes[start:position], "utf-8"))
            except UnicodeDecodeError as error:
                raise ModelFault(f"{self.label}: text {number} is no UTF-8: {error}") from error
        return found

    def numbers(self) -> memoryview[Any]:
        """The numbers as they lie in the file, uncopied. Raises ModelFault naming file and key where these are none."""
        if self.kind == STRING:
            raise ModelFault(f"{self.label}: holds texts, no numbers")
        found: memoryview[Any] = self._bytes.cast(SCALARS[self.kind][1:])  # type: ignore[call-overload]
        return found


Value = str | int | float | bool | Array


def open_gguf(path: Path) -> tuple[TensorFile, dict[str, Value]]:
    """Map the file and check its header: its tensors and its keys.

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


def shortest(value: float) -> float:
    """The shortest decimal that is this number in fp32: as a rule what the writer of the file was given."""
    if not math.isfinite(value) or abs(value) > MAX_EXACT:
        return value
    stored = struct.pack("<f", value)
    decimals = (float(f"{value:.{digits}g}") for digits in range(1, 10))
    return next((each for each in decimals if struct.pack("<f", each) == stored), value)


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
            if name in values:
                raise ModelFault(f"{self.path}: {name}: stands in the header twice")
            values[name] = self.value(name, self.number("<I"))
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

    def value(self, name: str, kind: int) -> Value:
        if kind == STRING:
            return self.string(MAX_STRING_BYTES)
        if kind != ARRAY:
            return self.scalar(name, kind)
        kind, count = self.number("<I"), self.number("<Q")
        begin = self.position
        if kind == STRING:
            self.skip_strings(count)
        elif kind in SCALARS:
            self.skip(count * struct.calcsize(SCALARS[kind]))
        else:
            raise ModelFault(f"{self.path}: {name}: an array of type {kind} is not read")
        return Array(f"{self.path}: {name}", kind, count, memoryview(self.mapping)[begin : self.position])

    def scalar(self, name: str, kind: int) -> Value:
        if kind not in SCALARS:
            raise ModelFault(f"{self.path}: {name}: type {kind} is not known")
        value: Value = struct.unpack(SCALARS[kind], self.take(struct.calcsize(SCALARS[kind])))[0]
        return shortest(value) if kind == FLOAT and isinstance(value, float) else value

    def skip_strings(self, count: int) -> None:
        """Ends where the header does, whatever the count: each string takes eight bytes at least."""
        position, limit = self.position, self.limit
        for _ in range(count):
            if position + _LENGTH.size > limit:
                raise _Short
            position += _LENGTH.size + _LENGTH.unpack_from(self.mapping, position)[0]
        if position > limit:
            raise _Short
        self.position = position

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
        raise ModelFault(f"{label}: GGUF type {UNREAD.get(kind, kind)} is not read; take the model in one of: {known}")
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
