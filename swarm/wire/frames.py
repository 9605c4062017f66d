"""The frame: sixteen bytes of header, metadata, body. Every length is held against its cap before a byte is allocated.

    u32 length | u8 kind | u8 flags | u16 metadata length | u64 stream | metadata (msgpack) | body

All little-endian; `length` counts what follows the header. This layout and the first field of Hello stay as they are in
every version of the protocol, so that two versions can name each other. Knows nothing of what kinds or metadata mean.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from swarm.errors import LocalFault, ProtocolFault

HEADER = struct.Struct("<IBBHQ")
HEADER_BYTES = HEADER.size
MAX_FRAME_BYTES = 1 << 20  # header included
MAX_METADATA_BYTES = 4096
MAX_STREAM = (1 << 63) - 1
MORE = 1  # flag: the body goes on in the next frame of the same stream and kind
_FLAGS = MORE

Frame = tuple[bytes, memoryview]  # header with metadata, and the body, which is passed through uncopied
_NO_BODY = memoryview(b"")


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """The checked header of a frame that is being received."""

    kind: int
    stream: int
    metadata_bytes: int
    body_bytes: int
    more: bool

    @classmethod
    def parse(cls, raw: bytes | bytearray) -> FrameHeader:
        """From at least HEADER_BYTES bytes. Raises ProtocolFault."""
        length, kind, flags, metadata_bytes, stream = HEADER.unpack_from(raw)
        if length > MAX_FRAME_BYTES - HEADER_BYTES:
            raise ProtocolFault(f"a frame of {length} bytes exceeds the cap of {MAX_FRAME_BYTES - HEADER_BYTES}")
        if metadata_bytes > min(length, MAX_METADATA_BYTES):
            raise ProtocolFault(f"{metadata_bytes} bytes of metadata in a frame of {length} (cap {MAX_METADATA_BYTES})")
        if flags & ~_FLAGS:
            raise ProtocolFault(f"a frame with unknown flags {flags:#04x}")
        if stream > MAX_STREAM:
            raise ProtocolFault(f"a frame of stream {stream:#x}")
        return cls(kind, stream, metadata_bytes, length - metadata_bytes, bool(flags & MORE))


def build(kind: int, stream: int, metadata: bytes, body: memoryview, piece_bytes: int) -> list[Frame]:
    """The frames of one message; a body longer than `piece_bytes` is cut into several. Raises LocalFault."""
    if len(metadata) > MAX_METADATA_BYTES:
        raise LocalFault(f"{len(metadata)} bytes of metadata in a message of kind {kind} (cap {MAX_METADATA_BYTES})")
    if not 0 < piece_bytes <= MAX_FRAME_BYTES - HEADER_BYTES - MAX_METADATA_BYTES:
        raise LocalFault(f"pieces of {piece_bytes} bytes do not fit a frame of {MAX_FRAME_BYTES}")
    total = len(body)
    if total <= piece_bytes:
        return [(HEADER.pack(len(metadata) + total, kind, 0, len(metadata), stream) + metadata, body or _NO_BODY)]
    frames = []
    for start in range(0, total, piece_bytes):
        piece = body[start : start + piece_bytes]
        flags = MORE if start + piece_bytes < total else 0
        header = HEADER.pack(len(metadata) + len(piece), kind, flags, len(metadata), stream)
        frames.append((header + metadata, piece))
        metadata = b""  # only the first frame says what the message is
    return frames


def split(frame: Frame, body_bytes: int) -> tuple[Frame, Frame]:
    """Cut a frame in two, the first with `body_bytes` of its body: two frames of the same message."""
    head, body = frame
    _, kind, flags, metadata_bytes, stream = HEADER.unpack_from(head)
    first, rest = body[:body_bytes], body[body_bytes:]
    start = HEADER.pack(metadata_bytes + len(first), kind, flags | MORE, metadata_bytes, stream)
    return (start + head[HEADER_BYTES:], first), (HEADER.pack(len(rest), kind, flags, 0, stream), rest)
