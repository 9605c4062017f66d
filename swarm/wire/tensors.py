"""Tensors as they travel: a small header and a raw little-endian C-contiguous buffer. Never pickle.

The codec "planes-zstd" is lossless. Activations use few exponents and random mantissas, so the exponents go apart and
are compressed (zstandard, level 1), and sign and mantissa follow as they are. Knows nothing of torch.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import zstandard

from swarm.errors import LocalFault, ProtocolFault

ITEM_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
MAX_TENSOR_BYTES = 64 << 20
MAX_DIMENSIONS = 4
RAW = "raw"
PLANES = "planes-zstd"
CODECS = (RAW, PLANES)
_PLANES_DTYPES: dict[str, np.dtype[Any]] = {  # those with eight bits of exponent under the sign
    "bf16": np.dtype("<u2"),
    "fp32": np.dtype("<u4"),
}

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """What stands in the metadata; the buffer follows as the message's body."""

    dtype: str  # a key of ITEM_BYTES
    shape: tuple[int, ...]  # at most MAX_DIMENSIONS
    codec: str  # one of CODECS
    byte_length: int  # of the body as it travels

    def check(self) -> None:
        """Every size against its cap, before anything is allocated. Raises ProtocolFault."""
        if self.dtype not in ITEM_BYTES:
            raise ProtocolFault(f"a tensor of unknown dtype {self.dtype!r}")
        if not 1 <= len(self.shape) <= MAX_DIMENSIONS or not all(size > 0 for size in self.shape):
            raise ProtocolFault(
                f"a tensor of shape {list(self.shape)}: 1 to {MAX_DIMENSIONS} positive sizes are allowed"
            )
        if self.raw_bytes > MAX_TENSOR_BYTES:
            raise ProtocolFault(f"a tensor of {self.raw_bytes} bytes exceeds the cap of {MAX_TENSOR_BYTES}")
        if self.codec == RAW:
            good = self.byte_length == self.raw_bytes
        elif self.codec == PLANES and self.dtype in _PLANES_DTYPES:
            good = _rest_bytes(self.dtype, self.raw_bytes) < self.byte_length < self.raw_bytes
        else:
            raise ProtocolFault(f"a {self.dtype} tensor in unknown codec {self.codec!r}")
        if not good:
            what = f"a {self.dtype} tensor of shape {list(self.shape)}"
            raise ProtocolFault(f"{what} cannot take {self.byte_length} bytes as {self.codec}")

    @property
    def raw_bytes(self) -> int:
        """Bytes of the buffer when it is not compressed."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


@dataclass(frozen=True, slots=True)
class Tensor:
    """An array that nobody has to interpret to pass it on."""

    dtype: str  # a key of ITEM_BYTES
    shape: tuple[int, ...]
    data: memoryview  # raw little-endian, C-contiguous, one dimension of bytes; never compressed

    def __post_init__(self) -> None:
        if self.dtype not in ITEM_BYTES or math.prod(self.shape) * ITEM_BYTES[self.dtype] != self.data.nbytes:
            raise LocalFault(f"{self.data.nbytes} bytes are no {self.dtype} tensor of shape {list(self.shape)}")

    def __repr__(self) -> str:
        return f"Tensor({self.dtype}, {list(self.shape)})"


_EXPONENTS = {"fp32": ("<u4", 0x7F80_0000), "bf16": ("<u2", 0x7F80), "fp16": ("<u2", 0x7C00)}  # all ones: not finite


def is_finite(tensor: Tensor) -> bool:
    """Whether every number is one: no infinity, no NaN."""
    words, exponent = _EXPONENTS[tensor.dtype]
    return not bool((np.frombuffer(tensor.data, words) & exponent == exponent).any())


def same_ends(one: Tensor, other: Tensor, count: int) -> bool:
    """Whether rows of one dtype and shape have the same bits in their last `count` numbers."""
    if not count:
        return True
    words, _ = _EXPONENTS[one.dtype]
    ends = [np.frombuffer(each.data, words).reshape(each.shape)[:, -count:] for each in (one, other)]
    return bool((ends[0] == ends[1]).all())


def pack(tensor: Tensor, codec: str = RAW) -> tuple[TensorHeader, Buffer]:
    """The header and the body to send. Falls back to raw where the codec does not shorten. Raises LocalFault."""
    if tensor.data.nbytes > MAX_TENSOR_BYTES:
        raise LocalFault(
            f"a tensor of {tensor.data.nbytes} bytes exceeds the cap of {MAX_TENSOR_BYTES}: send fewer rows"
        )
    if not 1 <= len(tensor.shape) <= MAX_DIMENSIONS or tensor.data.nbytes == 0:
        raise LocalFault(f"a tensor of shape {list(tensor.shape)} cannot be sent")
    body: Buffer = tensor.data.cast("B") if tensor.data.format != "B" or tensor.data.ndim != 1 else tensor.data
    if codec == PLANES and tensor.dtype in _PLANES_DTYPES:
        packed = _split_planes(tensor.dtype, body)
        if len(packed) < tensor.data.nbytes:
            return TensorHeader(tensor.dtype, tensor.shape, PLANES, len(packed)), packed
    return TensorHeader(tensor.dtype, tensor.shape, RAW, tensor.data.nbytes), body


def unpack(header: TensorHeader, body: Buffer) -> Tensor:
    """The tensor of a checked header and its whole body. Raises ProtocolFault."""
    if len(body) != header.byte_length:
        raise ProtocolFault(f"a tensor's body has {len(body)} bytes where {header.byte_length} were declared")
    data = memoryview(body) if header.codec == RAW else _join_planes(header, body)
    return Tensor(header.dtype, header.shape, data)


def _rest_bytes(dtype: str, raw_bytes: int) -> int:
    """Bytes of the sign-and-mantissa plane: everything but one byte of exponent for each item."""
    return raw_bytes - raw_bytes // ITEM_BYTES[dtype]


class _Zstd(threading.local):
    """zstandard's contexts are costly to make and belong to one thread at a time."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=1, write_content_size=True)
        self.decompressor = zstandard.ZstdDecompressor()


_zstd = _Zstd()


def _split_planes(dtype: str, data: Buffer) -> bytes:
    """Sign and mantissa of every item, then the compressed exponents."""
    words = np.frombuffer(data, _PLANES_DTYPES[dtype])
    item = words.itemsize
    turned = words << 1  # a rotation by one bit brings the whole exponent into the highest byte
    turned |= words >> (8 * item - 1)
    columns = turned.view(np.uint8).reshape(-1, item)
    rest = np.ascontiguousarray(columns[:, : item - 1])
    exponents = np.ascontiguousarray(columns[:, item - 1])
    return b"".join((rest.data, _zstd.compressor.compress(exponents.data)))


def _join_planes(header: TensorHeader, body: Buffer) -> memoryview:
    dtype = _PLANES_DTYPES[header.dtype]
    item = dtype.itemsize
    count = header.raw_bytes // item
    view = memoryview(body)
    split = count * (item - 1)
    exponents = np.frombuffer(_decompress(view[split:], count), np.uint8)
    turned = np.empty(count, dtype)
    columns = turned.view(np.uint8).reshape(-1, item)
    columns[:, : item - 1] = np.frombuffer(view[:split], np.uint8).reshape(-1, item - 1)
    columns[:, item - 1] = exponents
    low = turned << (8 * item - 1)
    turned >>= 1
    turned |= low
    return turned.data.cast("B")


def _decompress(packed: memoryview, count: int) -> bytes:
    """Exactly `count` bytes, or ProtocolFault before they are allocated: a zstd frame states its own size."""
    try:
        stated = zstandard.frame_content_size(packed)
        if stated != count:
            raise ProtocolFault(f"compressed exponents claim {stated} bytes where {count} are expected")
        exponents: bytes = _zstd.decompressor.decompress(packed, max_output_size=count, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ProtocolFault(f"compressed exponents are broken: {error}") from error
    if len(exponents) != count:
        raise ProtocolFault(f"compressed exponents give {len(exponents)} bytes where {count} are expected")
    return exponents
