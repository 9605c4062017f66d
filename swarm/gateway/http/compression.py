"""Compressed bodies (RFC 9110, 8.4; RFC 8878): requests decoded within a bound, answers encoded where that pays.

What is said in a few bytes may be endless: whatever decodes is stopped at the bound of a body, not after it.
"""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Callable, Mapping
from functools import partial

import zstandard
from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from swarm.gateway.http.errors import BodyTooLong, FieldFault, UnknownEncoding

ENCODINGS = ("zstd", "gzip", "deflate")
MAX_MEMBERS = 16  # of a gzip body, after each other
MAX_LAYERS = 3  # encodings of encodings
WINDOW_BYTES = 8 << 20  # a zstd frame that asks for more memory is refused (RFC 8878, 3.1.1.1.2)
LEAST_BYTES = 2048  # of an answer that is worth it
ASIDE_BYTES = 64 << 10  # larger ones are encoded off the event loop
LEVEL = 4


def check_encoding(header: str) -> tuple[str, ...]:
    """The encodings of a body, in the order in which they were applied. Raises UnknownEncoding."""
    named = tuple(name for each in header.lower().split(",") if (name := each.strip()) not in ("", "identity"))
    for name in named:
        if name.removeprefix("x-") not in ENCODINGS:
            raise UnknownEncoding(f"content-encoding {name[:64]!r} is not known here; taken are {', '.join(ENCODINGS)}")
    if len(named) > MAX_LAYERS:
        raise UnknownEncoding(f"content-encoding names {len(named)} encodings: at most {MAX_LAYERS} are taken")
    return tuple(name.removeprefix("x-") for name in named)


def decoded(body: bytes, encodings: tuple[str, ...], most: int) -> bytes:
    """The body without its encodings. Raises FieldFault for one that is broken, BodyTooLong beyond `most` bytes."""
    for name in reversed(encodings):
        try:
            body = _DECODERS[name](body, most + 1)
        except (zlib.error, zstandard.ZstdError, EOFError) as error:
            raise FieldFault(f"the request's body is no {name}: {error}", "body") from error
        if len(body) > most:
            raise BodyTooLong(f"the request's body has more than {most} bytes, decoded from {name}", "body")
    return body


def _inflated(body: bytes, most: int, bits: int) -> bytes:
    parts, rest, size = [], body, 0
    for _ in range(MAX_MEMBERS):
        if not rest or size >= most:
            break
        decoder = zlib.decompressobj(bits)
        part = decoder.decompress(rest, most - size)
        size += len(part)
        parts.append(part)
        if not decoder.eof and size < most:
            raise EOFError("it ends in the middle")
        rest = decoder.unused_data if bits > zlib.MAX_WBITS else b""
    return b"".join(parts)


def _gunzipped(body: bytes, most: int) -> bytes:
    return _inflated(body, most, zlib.MAX_WBITS | 16)


def _deflated(body: bytes, most: int) -> bytes:
    """With zlib's header, as it should be, or without, as some write it."""
    try:
        return _inflated(body, most, zlib.MAX_WBITS)
    except zlib.error:
        return _inflated(body, most, -zlib.MAX_WBITS)


def _unpacked(body: bytes, most: int) -> bytes:
    decoder = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES)
    with decoder.stream_reader(body, read_across_frames=True) as reader:
        return reader.read(most)


_DECODERS: Mapping[str, Callable[[bytes, int], bytes]] = {
    "zstd": _unpacked,
    "gzip": _gunzipped,
    "deflate": _deflated,
}


async def encoded(response: ASGIApp, accepted: str) -> ASGIApp:
    """An answer as whoever asked can take it; only whole JSON is encoded, never a stream of events."""
    if not isinstance(response, JSONResponse):
        return response
    if len(response.body) >= LEAST_BYTES:
        response.headers["vary"] = "accept-encoding"
        if takes_gzip(accepted):
            body = bytes(response.body)
            pack = partial(gzip.compress, body, LEVEL, mtime=0)
            response.body = pack() if len(body) < ASIDE_BYTES else await asyncio.to_thread(pack)
            response.headers["content-encoding"] = "gzip"
            response.headers["content-length"] = str(len(response.body))
    return response


def takes_gzip(accepted: str) -> bool:
    """By an Accept-Encoding header (RFC 9110, 12.5.3)."""
    for each in accepted.lower().split(","):
        name, _, weight = each.partition(";")
        if name.strip() in ("gzip", "x-gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
