"""What a hostile peer sends once it has said Hello: frames that lie about lengths, tensors that lie about themselves, metadata
nested or sized beyond all bounds. Pure: bytes out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import msgpack
import zstandard

from swarm.wire.frames import HEADER, MAX_FRAME_BYTES, MAX_METADATA_BYTES

CONTROL_KINDS = (1, 2, 3, 30)  # Hello, Ping, Pong, Goodbye, which travel on stream 0
KINDS = (*range(1, 15), 30, 31, 32)
OPEN, FORWARD, FETCH = 4, 6, 13
DECODE, CHUNK = 1, 2  # kinds of rows
HUGE = (1 << 31, (1 << 31) - 1, (1 << 32) - 1)
BOMB_ROWS = 128


def frame(
    kind: int,
    metadata: bytes = b"",
    body: bytes = b"",
    *,
    length: int | None = None,
    metadata_bytes: int | None = None,
    flags: int = 0,
    stream: int | None = None,
) -> bytes:
    """A frame whose header says what it is told to."""
    said = len(metadata) + len(body) if length is None else length
    about = len(metadata) if metadata_bytes is None else metadata_bytes
    where = (0 if kind in CONTROL_KINDS else 1) if stream is None else stream
    return HEADER.pack(said, kind, flags, about, where) + metadata + body


def lengths() -> Iterator[bytes]:
    """Headers that promise what never comes, or what may not be."""
    for kind in (*CONTROL_KINDS, OPEN, FORWARD, FETCH):
        for length in HUGE:
            yield frame(kind, length=length)
            yield frame(kind, length=length, metadata_bytes=0xFFFF)
        yield frame(kind, length=MAX_FRAME_BYTES - HEADER.size, metadata_bytes=MAX_METADATA_BYTES)
        yield frame(kind, length=3, metadata_bytes=400)
        yield frame(kind, flags=0xFF)
        yield frame(kind, stream=(1 << 64) - 1)
    yield frame(0)
    yield frame(255)


def forward(session_id: bytes, tensor: Any, body: bytes = b"", rows: Any = DECODE, **said: Any) -> bytes:
    """A Forward with whatever it says of its tensor: [dtype, shape, codec, bytes]."""
    fields = [session_id, said.get("step", 0), said.get("position", 0), rows, tensor]
    return frame(FORWARD, msgpack.packb(fields), body)


def lies(session_id: bytes, hidden: int, dtype: str) -> Iterator[bytes]:
    """About dtype and shape, to a session that is open."""
    item = {"bf16": 2, "fp32": 4}[dtype]
    row = hidden * item
    other = "fp32" if dtype == "bf16" else "bf16"
    for tensor in (
        ["fp64", [1, hidden], "raw", row],
        [dtype, [1 << 31, hidden], "raw", (1 << 31) * row],
        [dtype, [1 << 31, hidden], "raw", row],
        [dtype, [1, hidden], "raw", 1 << 31],
        [dtype, [0, hidden], "raw", 0],
        [dtype, [(1 << 62) - 1] * 4, "raw", row],
        [dtype, [1] * 900, "raw", item],
        [dtype, [-1, hidden], "raw", row],
        [dtype, [1.0, hidden], "raw", row],
        [dtype, "rows", "raw", row],
        [dtype, [1, hidden], "gzip", row - 1],
        [dtype, [1, hidden], "raw", row, row],
        "tensor",
        None,
    ):
        yield forward(session_id, tensor, bytes(row))
    yield forward(session_id, [dtype, [1, 2 * hidden], "raw", 2 * row], bytes(2 * row))
    yield forward(session_id, [dtype, [hidden], "raw", row], bytes(row))
    size = hidden * (6 - item)
    yield forward(session_id, [other, [1, hidden], "raw", size], bytes(size))
    yield forward(session_id, [dtype, [1, hidden], "raw", row], bytes(row), rows=77)
    yield forward(session_id, [dtype, [1, hidden], "raw", row], bytes(row), position=(1 << 62) - 1)
    yield forward(session_id, [dtype, [1, hidden], "raw", row], bytes(row), step=1 << 62)
    yield forward(session_id, [dtype, [1, hidden], "raw", row], b"\xff" * row)  # not a number, in the others' tiles
    yield from _bombs(session_id, hidden, dtype, item)


def _bombs(session_id: bytes, hidden: int, dtype: str, item: int) -> Iterator[bytes]:
    """Compressed exponents that would become far more than they say, or are none."""
    count = BOMB_ROWS * hidden
    rest = bytes(count * (item - 1))
    for packed in (
        zstandard.ZstdCompressor(write_content_size=False).compress(bytes(64 << 20)),
        zstandard.ZstdCompressor().compress(bytes(64 << 20)),
        b"\x28\xb5\x2f\xfd" + b"\xff" * 200,
    ):
        body = rest + packed
        if len(body) < count * item:
            tensor = [dtype, [BOMB_ROWS, hidden], "planes-zstd", len(body)]
            yield forward(session_id, tensor, body, rows=CHUNK)


def nesting() -> Iterator[bytes]:
    """Metadata that a careless reader would follow down, or make room for."""
    deep = MAX_METADATA_BYTES - 1
    for metadata in (
        b"\x91" * deep + b"\x90",
        b"\x81\xa0" * (deep // 2) + b"\xc0",
        b"\xdc\x00\x01" * (deep // 3) + b"\xc0",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x00",
        b"\x9f" + b"\xdd\x00\xff\xff\xff" * 15,
        b"\xd9\xff" + b"\xff" * 255,
        b"",
        b"\xc1" * 100,
        struct.pack(">B", 0x93) + b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00" * 3,
    ):
        for kind in KINDS:
            yield frame(kind, metadata)
