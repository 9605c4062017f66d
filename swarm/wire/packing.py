"""Messages to metadata and body, and back: one row of field codecs for each kind of message.

Metadata is a msgpack array of the message's fields in order, without maps or extensions; what a peer sent is checked
field by field. A body, if the kind has one, is described in the metadata, so its size is known and capped before it
arrives.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import msgpack

from swarm.errors import LocalFault, ProtocolFault
from swarm.identity import KEY_BYTES as PEER_BYTES
from swarm.identity import SIGNATURE_BYTES
from swarm.records import DIGEST_BYTES, MAX_RECORD_BYTES
from swarm.span import LayerSpan
from swarm.wire.messages import (
    MAX_ADDRESSES,
    MAX_DETAIL_BYTES,
    MAX_PAGE_RECORDS,
    Attach,
    Close,
    Closed,
    Connect,
    Connected,
    DialBack,
    DialledBack,
    Expect,
    Fault,
    FaultCode,
    FetchRecords,
    Forward,
    Goodbye,
    Hello,
    Load,
    Message,
    Open,
    Opened,
    Ping,
    Pong,
    RecordsPage,
    Renew,
    Result,
    Taken,
    Working,
)
from swarm.wire.receipts import MAX_RECEIPT_BYTES, Receipt
from swarm.wire.rows import SESSION_ID_BYTES, Rows
from swarm.wire.tensors import MAX_DIMENSIONS, MAX_TENSOR_BYTES, RAW, Buffer, Tensor, TensorHeader, pack, unpack

MAX_WHOLE = (1 << 62) - 1  # counts and positions
MAX_SEQUENCE = (1 << 63) - 1  # as of records
MAX_TEXT_BYTES = 256  # agent, precision, numerics class
MAX_CODECS = 16
MAX_BODY_BYTES = MAX_TENSOR_BYTES  # of one message; a page of records is far smaller
KEY_BYTES = 20
_MAX_ARRAY = MAX_PAGE_RECORDS  # the longest array in any metadata


class _Bad(Exception):
    """A field is not what its kind of message says; the text says how."""


@dataclass(frozen=True, slots=True)
class _Field:
    """One field of metadata: how it is written, and how it is read from a stranger (raises _Bad)."""

    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


def _same(value: Any) -> Any:
    return value


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MAX_WHOLE:
        raise _Bad("is no count")
    return value


def _sequence(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MAX_SEQUENCE:
        raise _Bad("is no sequence of records")
    return value


def _port(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 16:
        raise _Bad("is no port")
    return value


def _seconds(value: Any) -> float:
    if type(value) is not float or not math.isfinite(value) or value < 0:
        raise _Bad("is no duration")
    return value


def _text(cap: int) -> _Field:
    def read(value: Any) -> str:
        if type(value) is not str or len(value.encode()) > cap:
            raise _Bad(f"is no text of at most {cap} bytes")
        return value

    return _Field(_same, read)


def _exactly(size: int) -> _Field:
    def read(value: Any) -> bytes:
        if type(value) is not bytes or len(value) != size:
            raise _Bad(f"is not {size} bytes")
        return value

    return _Field(bytes, read)


def _optional(field: _Field) -> _Field:
    return _Field(
        lambda value: None if value is None else field.write(value),
        lambda value: None if value is None else field.read(value),
    )


def _array(value: Any, least: int, most: int) -> list[Any]:
    if type(value) is not list or not least <= len(value) <= most:
        raise _Bad(f"is no array of {least} to {most} values")
    return value


def _read_enum(kind: type[Rows] | type[FaultCode]) -> Callable[[Any], Any]:
    known = frozenset(int(member) for member in kind)

    def read(value: Any) -> Any:
        if type(value) is not int or value not in known:
            raise _Bad(f"is no {kind.__name__}")
        return kind(value)

    return read


def _read_span(value: Any) -> LayerSpan:
    start, stop = _array(value, 2, 2)
    try:
        return LayerSpan(_whole(start), _whole(stop))
    except ValueError as error:
        raise _Bad(str(error)) from error


def _read_load(value: Any) -> Load:
    queue_rows, sessions, tokens_free, step_seconds = _array(value, 4, 4)
    return Load(_whole(queue_rows), _whole(sessions), _whole(tokens_free), _seconds(step_seconds))


def _write_load(load: Load) -> list[Any]:
    return [load.queue_rows, load.sessions, load.cache_tokens_free, float(load.step_seconds)]


def _read_header(value: Any) -> TensorHeader:
    dtype, shape, codec, byte_length = _array(value, 4, 4)
    shape = tuple(_whole(size) for size in _array(shape, 1, MAX_DIMENSIONS))
    header = TensorHeader(_SHORT.read(dtype), shape, _SHORT.read(codec), _whole(byte_length))
    header.check()
    return header


def _read_addresses(value: Any) -> tuple[tuple[str, int], ...]:
    found = []
    for address in _array(value, 0, MAX_ADDRESSES):
        host, port = _array(address, 2, 2)
        if not 0 < _whole(port) < 1 << 16:
            raise _Bad("has no port")
        found.append((_SHORT.read(host), port))
    return tuple(found)


def _read_lengths(value: Any) -> list[int]:
    lengths = _array(value, 0, MAX_PAGE_RECORDS)
    if not all(type(length) is int and 0 < length <= MAX_RECORD_BYTES for length in lengths):
        raise _Bad(f"has a record of no byte or of more than {MAX_RECORD_BYTES}")
    return lengths


def _read_receipt(value: Any) -> Receipt:
    if type(value) is not bytes:
        raise _Bad("is no receipt")
    return Receipt.parse(value)


def _read_flag(value: Any) -> bool:
    if type(value) is not bool:
        raise _Bad("is neither true nor false")
    return value


_SHORT = _text(MAX_TEXT_BYTES)
_WHOLE = _Field(_same, _whole)
_SECONDS = _Field(float, _seconds)
_SESSION = _exactly(SESSION_ID_BYTES)
_SPAN = _Field(lambda span: [span.start, span.stop], _read_span)
_LOAD = _Field(_write_load, _read_load)
_ROWS = _Field(int, _read_enum(Rows))
_CODE = _Field(int, _read_enum(FaultCode))
_CODECS = _Field(list, lambda value: tuple(_SHORT.read(codec) for codec in _array(value, 0, MAX_CODECS)))
_RECEIPT = _optional(_Field(Receipt.pack, _read_receipt))
_FLAG = _Field(_same, _read_flag)
_TENSOR = _Field(lambda header: [header.dtype, list(header.shape), header.codec, header.byte_length], _read_header)
_ADDRESSES = _Field(lambda addresses: [list(address) for address in addresses], _read_addresses)
_TICKET = _exactly(SIGNATURE_BYTES)
_RECORDS = _Field(lambda records: [len(record) for record in records], _read_lengths)

# kind number: message, its fields in order. A number is never used again for another message.
_ROWS_OF_KINDS: tuple[tuple[int, type[Message], tuple[_Field, ...]], ...] = (
    (1, Hello, (_WHOLE, _SHORT, _CODECS)),
    (2, Ping, ()),
    (3, Pong, (_optional(_LOAD),)),
    (4, Open, (_SESSION, _exactly(DIGEST_BYTES), _SPAN, _SHORT, _WHOLE, _optional(_SESSION), _WHOLE)),
    (5, Opened, (_SESSION, _SECONDS, _SHORT, _LOAD, _WHOLE, _RECEIPT)),
    (6, Forward, (_SESSION, _WHOLE, _WHOLE, _ROWS, _TENSOR, _WHOLE, _WHOLE)),
    (7, Result, (_SESSION, _WHOLE, _WHOLE, _ROWS, _TENSOR, _LOAD, _RECEIPT, _FLAG)),
    (8, Working, (_SESSION, _WHOLE, _WHOLE, _FLAG)),
    (9, Renew, (_SESSION, _FLAG)),
    (10, Close, (_SESSION,)),
    (11, Closed, (_SESSION, _RECEIPT)),
    (12, Fault, (_optional(_SESSION), _CODE, _text(MAX_DETAIL_BYTES), _optional(_SECONDS))),
    (13, FetchRecords, (_exactly(KEY_BYTES), _WHOLE)),
    (14, RecordsPage, (_RECORDS, _FLAG)),
    (15, Taken, (_SESSION, _WHOLE)),
    (16, Expect, (_SESSION, _WHOLE)),
    (17, Connect, (_SESSION, _WHOLE, _SESSION, _exactly(PEER_BYTES), _ADDRESSES, _TICKET)),
    (18, Attach, (_SESSION, _WHOLE, _TICKET)),
    (19, Connected, (_SESSION, _WHOLE)),
    (30, Goodbye, (_Field(_same, _sequence),)),
    (31, DialBack, (_Field(_same, _port), _Field(_same, _port))),
    (32, DialledBack, (_SHORT, _text(MAX_DETAIL_BYTES), _FLAG)),
)


@dataclass(frozen=True, slots=True)
class _Kind:
    number: int
    message: type[Message]
    names: tuple[str, ...]
    fields: tuple[_Field, ...]
    body: int | None  # index of the field that travels as the body


def _kind(number: int, message: type[Message], row: tuple[_Field, ...]) -> _Kind:
    names = tuple(field.name for field in fields(message))
    body = next((index for index, field in enumerate(row) if field in (_TENSOR, _RECORDS)), None)
    return _Kind(number, message, names, row, body)


_KINDS = {number: _kind(number, message, row) for number, message, row in _ROWS_OF_KINDS}
_KIND_OF = {kind.message: kind for kind in _KINDS.values()}


def pack_message(message: Message, codec: str = RAW) -> tuple[int, bytes, memoryview]:
    """Kind, metadata and body. Raises LocalFault for a message that no peer would take."""
    kind = _KIND_OF[type(message)]
    values: list[Any] = [getattr(message, name) for name in kind.names]
    body: Buffer = b""
    if kind.body is not None:
        payload = values[kind.body]
        if isinstance(payload, Tensor):
            values[kind.body], body = pack(payload, codec)
        else:
            body = b"".join(payload)
    try:
        metadata: bytes = msgpack.packb([field.write(value) for field, value in zip(kind.fields, values, strict=True)])
    except (TypeError, ValueError, OverflowError) as error:
        raise LocalFault(f"a {type(message).__name__} that cannot be sent: {error}") from error
    return kind.number, metadata, memoryview(body)


@dataclass(frozen=True, slots=True)
class Draft:
    """A received message whose body may still be on its way."""

    kind: _Kind
    values: list[Any]
    body_bytes: int  # declared, checked and capped

    @property
    def message_type(self) -> type[Message]:
        return self.kind.message

    def finish(self, body: Buffer) -> Message:
        """The message, given its whole body. Raises ProtocolFault."""
        if len(body) != self.body_bytes:
            raise ProtocolFault(f"a {self.message_type.__name__} with {len(body)} of {self.body_bytes} bytes of body")
        values = list(self.values)
        if self.kind.body is not None:
            described = values[self.kind.body]
            whole = unpack(described, body) if isinstance(described, TensorHeader) else _cut(described, body)
            values[self.kind.body] = whole
        return self.message_type(*values)


def message_type_of(number: int) -> type[Message]:
    """Which message a kind number stands for. Raises ProtocolFault."""
    kind = _KINDS.get(number)
    if kind is None:
        raise ProtocolFault(f"a frame of unknown kind {number}")
    return kind.message


def parse_metadata(number: int, metadata: Buffer) -> Draft:
    """Check a message's metadata. Raises ProtocolFault."""
    name = message_type_of(number).__name__
    kind = _KINDS[number]
    values = _unpack_array(name, metadata)
    if len(values) != len(kind.fields):
        raise ProtocolFault(f"a {name} with {len(values)} fields where {len(kind.fields)} are expected")
    try:
        checked = [field.read(value) for field, value in zip(kind.fields, values, strict=True)]
    except _Bad as error:
        raise ProtocolFault(f"a {name} with a field that {error}") from error
    body_bytes = 0
    if kind.body is not None:
        described = checked[kind.body]
        body_bytes = described.byte_length if isinstance(described, TensorHeader) else sum(described)
    return Draft(kind, checked, body_bytes)


def parse_version(metadata: Buffer) -> int:
    """The protocol version in a Hello of any version: its first field, whatever follows. Raises ProtocolFault."""
    values = _unpack_array("Hello", metadata)
    try:
        return _whole(values[0] if values else None)
    except _Bad as error:
        raise ProtocolFault(f"a Hello whose version {error}") from error


def _unpack_array(name: str, metadata: Buffer) -> list[Any]:
    try:
        values = msgpack.unpackb(
            metadata,
            max_str_len=MAX_DETAIL_BYTES,
            max_bin_len=MAX_RECEIPT_BYTES,
            max_array_len=_MAX_ARRAY,
            max_map_len=0,
            max_ext_len=0,
        )
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise ProtocolFault(f"a {name} with malformed metadata: {error or type(error).__name__}") from error
    if type(values) is not list:
        raise ProtocolFault(f"a {name} whose metadata is no array")
    return values


def _cut(lengths: list[int], body: Buffer) -> tuple[bytes, ...]:
    """The records that lie one after the other in a body."""
    records, start = [], 0
    for length in lengths:
        records.append(bytes(body[start : start + length]))
        start += length
    return tuple(records)
