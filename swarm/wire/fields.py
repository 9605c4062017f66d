"""Fields of metadata: how each kind is written, and how it is read from a stranger, checked and bounded.

Lower-case names make a kind of field, upper-case ones are kinds. Knows nothing of which message has which.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from swarm.identity import KEY_BYTES as PEER_BYTES
from swarm.identity import SIGNATURE_BYTES
from swarm.records import DIGEST_BYTES, MAX_RECORD_BYTES
from swarm.span import LayerSpan
from swarm.wire.messages import MAX_ADDRESSES, MAX_DETAIL_BYTES, MAX_PAGE_RECORDS, FaultCode, Load
from swarm.wire.receipts import Receipt
from swarm.wire.rows import SESSION_ID_BYTES, Rows
from swarm.wire.tensors import MAX_DIMENSIONS, TensorHeader

MAX_WHOLE = (1 << 62) - 1  # counts and positions
MAX_SEQUENCE = (1 << 63) - 1  # as of records
MAX_TEXT_BYTES = 256  # agent, precision, numerics class
MAX_CODECS = 16
KEY_BYTES = 20


class BadField(Exception):
    """A field is not what its kind of message says; the text says how."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of metadata: how it is written, and how it is read from a stranger (raises BadField)."""

    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


def _same(value: Any) -> Any:
    return value


def whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MAX_WHOLE:
        raise BadField("is no count")
    return value


def _sequence(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MAX_SEQUENCE:
        raise BadField("is no sequence of records")
    return value


def _port(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 16:
        raise BadField("is no port")
    return value


def _seconds(value: Any) -> float:
    if type(value) is not float or not math.isfinite(value) or value < 0:
        raise BadField("is no duration")
    return value


def text(cap: int) -> Field:
    def read(value: Any) -> str:
        if type(value) is not str or len(value.encode()) > cap:
            raise BadField(f"is no text of at most {cap} bytes")
        return value

    return Field(_same, read)


def exactly(size: int) -> Field:
    def read(value: Any) -> bytes:
        if type(value) is not bytes or len(value) != size:
            raise BadField(f"is not {size} bytes")
        return value

    return Field(bytes, read)


def optional(field: Field) -> Field:
    return Field(
        lambda value: None if value is None else field.write(value),
        lambda value: None if value is None else field.read(value),
    )


def _array(value: Any, least: int, most: int) -> list[Any]:
    if type(value) is not list or not least <= len(value) <= most:
        raise BadField(f"is no array of {least} to {most} values")
    return value


def _read_enum(kind: type[Rows] | type[FaultCode]) -> Callable[[Any], Any]:
    known = frozenset(int(member) for member in kind)

    def read(value: Any) -> Any:
        if type(value) is not int or value not in known:
            raise BadField(f"is no {kind.__name__}")
        return kind(value)

    return read


def _read_span(value: Any) -> LayerSpan:
    start, stop = _array(value, 2, 2)
    try:
        return LayerSpan(whole(start), whole(stop))
    except ValueError as error:
        raise BadField(str(error)) from error


def _read_load(value: Any) -> Load:
    queue_rows, sessions, tokens_free, step_seconds = _array(value, 4, 4)
    return Load(whole(queue_rows), whole(sessions), whole(tokens_free), _seconds(step_seconds))


def _write_load(load: Load) -> list[Any]:
    return [load.queue_rows, load.sessions, load.cache_tokens_free, float(load.step_seconds)]


def _read_header(value: Any) -> TensorHeader:
    dtype, shape, codec, byte_length = _array(value, 4, 4)
    shape = tuple(whole(size) for size in _array(shape, 1, MAX_DIMENSIONS))
    header = TensorHeader(SHORT.read(dtype), shape, SHORT.read(codec), whole(byte_length))
    header.check()
    return header


def _read_addresses(value: Any) -> tuple[tuple[str, int], ...]:
    found = []
    for address in _array(value, 0, MAX_ADDRESSES):
        host, port = _array(address, 2, 2)
        if not _port(port):
            raise BadField("has no port")
        found.append((SHORT.read(host), port))
    return tuple(found)


def _read_lengths(value: Any) -> list[int]:
    lengths = _array(value, 0, MAX_PAGE_RECORDS)
    if not all(type(length) is int and 0 < length <= MAX_RECORD_BYTES for length in lengths):
        raise BadField(f"has a record of no byte or of more than {MAX_RECORD_BYTES}")
    return lengths


def _read_receipt(value: Any) -> Receipt:
    if type(value) is not bytes:
        raise BadField("is no receipt")
    return Receipt.parse(value)


def _read_flag(value: Any) -> bool:
    if type(value) is not bool:
        raise BadField("is neither true nor false")
    return value


SHORT = text(MAX_TEXT_BYTES)
WHOLE = Field(_same, whole)
SECONDS = Field(float, _seconds)
SESSION = exactly(SESSION_ID_BYTES)
SPAN = Field(lambda span: [span.start, span.stop], _read_span)
LOAD = Field(_write_load, _read_load)
ROWS = Field(int, _read_enum(Rows))
CODE = Field(int, _read_enum(FaultCode))
CODECS = Field(list, lambda value: tuple(SHORT.read(codec) for codec in _array(value, 0, MAX_CODECS)))
RECEIPT = optional(Field(Receipt.pack, _read_receipt))
FLAG = Field(_same, _read_flag)
TENSOR = Field(lambda header: [header.dtype, list(header.shape), header.codec, header.byte_length], _read_header)
ADDRESSES = Field(lambda addresses: [list(address) for address in addresses], _read_addresses)
TICKET = exactly(SIGNATURE_BYTES)
RECORDS = Field(lambda records: [len(record) for record in records], _read_lengths)
SEQUENCE = Field(_same, _sequence)
PORT = Field(_same, _port)
DETAIL = text(MAX_DETAIL_BYTES)
DIGEST = exactly(DIGEST_BYTES)
PEER = exactly(PEER_BYTES)
KEY = exactly(KEY_BYTES)
