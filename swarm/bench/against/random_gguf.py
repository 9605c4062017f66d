"""A GGUF file of a shape with random weights, for programs that read models from files only.

What numbers are does not matter to speed, as long as rows stay finite: blocks are random bytes with small scales.
"""

from __future__ import annotations

import math
import shutil
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from swarm.checkpoint.gguf.dialects import DIALECTS
from swarm.checkpoint.gguf.file import FLOAT, MAGIC, STRING, TYPES
from swarm.errors import UsageFault
from swarm.model.spec import ModelSpec
from swarm.model.tensor_names import head_tensors, layer_tensors

ARCHITECTURE = "llama"
ALIGNMENT = 32
WHOLE = 4  # GGUF's number for an unsigned 32-bit integer
PIECE_BLOCKS = 1 << 16  # that are random; the file repeats them
SPARE_BYTES = 1 << 30  # of a disk that are left alone
SCALE = np.float16(0.004)  # of blocks: numbers of 4 and 8 bits come out as about 0.02 to 0.3
SCALES_AT: Mapping[str, int] = {"Q4_0": 0, "Q8_0": 0, "Q6_K": 208}  # the byte of a block where its fp16 scale stands
Shape = tuple[int, ...]
_NUMBERS = {name: number for number, (name, _, _) in TYPES.items()}


def tensors_of(spec: ModelSpec, kind: str) -> dict[str, tuple[Shape, str]]:
    """Each stored tensor's shape and type. Norms are F32; the embedding, which is the head too, as llama-quantize would have it.

    Raises UsageFault for a shape that is no plain Llama.
    """
    dialect = DIALECTS[ARCHITECTURE]
    if spec.architecture != dialect.architecture or not spec.tied:
        raise UsageFault(
            f"--against: files with random weights are Llama's with tied weights, not {spec.architecture}'s"
        )
    shapes = dict(head_tensors(spec))
    for layer in range(spec.layer_count):
        shapes.update(layer_tensors(spec, layer))
    found: dict[str, tuple[Shape, str]] = {}
    for name, shape in shapes.items():
        stored = dialect.stored(name)
        assert stored is not None
        head = "Q6_K" if kind == "Q4_0" else kind
        found[stored[0]] = (shape, "F32" if len(shape) == 1 else head if stored[0] == "token_embd.weight" else kind)
    return found


def file_bytes(tensors: Mapping[str, tuple[Shape, str]]) -> int:
    """Of all tensors."""
    return sum(_aligned(_size(shape, kind)) for shape, kind in tensors.values())


def write_random(path: Path, spec: ModelSpec, kind: str, seed: int = 0) -> None:
    """The file at `path`. Raises UsageFault where the disk has no room for it."""
    tensors = tensors_of(spec, kind)
    needed, free = file_bytes(tensors), shutil.disk_usage(path.parent).free
    if needed + SPARE_BYTES > free:
        raise UsageFault(
            f"--against: a file of {needed / 1e9:.1f} GB with random weights finds no room in {path.parent}, which has "
            f"{free / 1e9:.1f} GB: name another folder with TMPDIR"
        )
    random = np.random.default_rng(seed)
    with path.open("wb") as file:
        file.write(_header(spec, tensors))
        for shape, type_ in tensors.values():
            file.write(b"\0" * (_aligned(file.tell()) - file.tell()))
            _write_tensor(file, shape, type_, random)


def _size(shape: Shape, kind: str) -> int:
    _, numbers, size = TYPES[_NUMBERS[kind]]
    return math.prod(shape) // numbers * size


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _write_tensor(file: BinaryIO, shape: Shape, kind: str, random: np.random.Generator) -> None:
    left = _size(shape, kind)
    block = TYPES[_NUMBERS[kind]][2]
    piece = memoryview(_random(kind, min(left // block, PIECE_BLOCKS), random))
    while left:
        left -= file.write(piece[:left])


def _random(kind: str, blocks: int, random: np.random.Generator) -> bytes:
    if kind in ("F32", "BF16"):
        numbers = random.standard_normal(blocks, dtype=np.float32) * np.float32(0.02)
        return numbers.tobytes() if kind == "F32" else (numbers.view(np.uint32) >> 16).astype("<u2").tobytes()
    made = random.integers(0, 256, (blocks, TYPES[_NUMBERS[kind]][2]), dtype=np.uint8)
    if kind == "Q6_K":
        made[:, 192:208] = 1  # its sixteen scales, which are multiplied by the one of all
    at = SCALES_AT[kind]
    made[:, at : at + 2] = np.frombuffer(SCALE.tobytes(), np.uint8)
    return made.tobytes()


def _header(spec: ModelSpec, tensors: Mapping[str, tuple[Shape, str]]) -> bytes:
    keys = dict(_keys(spec))
    parts = [MAGIC, struct.pack("<IQQ", 3, len(tensors), len(keys))]
    for key, value in keys.items():
        parts.append(_text(key))
        if isinstance(value, str):
            parts.append(struct.pack("<I", STRING) + _text(value))
        elif isinstance(value, float):
            parts.append(struct.pack("<If", FLOAT, value))
        else:
            parts.append(struct.pack("<II", WHOLE, value))
    offset = 0
    for name, (shape, kind) in tensors.items():
        sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        parts.append(_text(name) + sizes + struct.pack("<IQ", _NUMBERS[kind], offset))
        offset += _aligned(_size(shape, kind))
    header = b"".join(parts)
    return header + b"\0" * (_aligned(len(header)) - len(header))


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _keys(spec: ModelSpec) -> Iterator[tuple[str, str | int | float]]:
    kind, (rope, *_) = spec.kinds[0], spec.ropes
    yield "general.architecture", ARCHITECTURE
    yield "general.name", "random weights"
    yield "general.alignment", ALIGNMENT
    yield "tokenizer.ggml.model", "no_vocab"
    for key, value in {
        "vocab_size": spec.vocab,
        "block_count": spec.layer_count,
        "context_length": spec.max_positions,
        "embedding_length": spec.hidden,
        "feed_forward_length": spec.inner,
        "attention.head_count": spec.heads,
        "attention.head_count_kv": kind.kv_heads,
        "attention.key_length": kind.head_dim,
        "attention.value_length": kind.head_dim,
        "rope.dimension_count": kind.head_dim,
        "rope.freq_base": float(rope.theta),
        "attention.layer_norm_rms_epsilon": float(spec.norm_eps),
    }.items():
        yield f"{ARCHITECTURE}.{key}", value
