"""Messages to metadata and body, and back: one row of field codecs for each kind of message.

Metadata is a msgpack array of the message's fields in order, without maps or extensions; what a peer sent is checked
field by field. A body, if the kind has one, is described in the metadata, so its size is known and capped before it
arrives.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import msgpack

from swarm.errors import LocalFault, ProtocolFault
from swarm.wire.fields import (
    ADDRESSES,
    CODE,
    CODECS,
    DETAIL,
    DIGEST,
    FLAG,
    KEY,
    LOAD,
    PEER,
    PORT,
    RECEIPT,
    RECORDS,
    ROWS,
    SECONDS,
    SEQUENCE,
    SESSION,
    SHORT,
    SPAN,
    TENSOR,
    TICKET,
    WHOLE,
    BadField,
    Field,
    optional,
    whole,
)
from swarm.wire.messages import (
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
    FetchRecords,
    Forward,
    Goodbye,
    Hello,
    Message,
    Open,
    Opened,
    Ping,
    Pong,
    Push,
    RecordsPage,
    Renew,
    Result,
    Working,
)
from swarm.wire.receipts import MAX_RECEIPT_BYTES
from swarm.wire.tensors import MAX_TENSOR_BYTES, RAW, Buffer, Tensor, TensorHeader, pack, unpack

MAX_BODY_BYTES = MAX_TENSOR_BYTES  # of one message; a page of records is far smaller
_MAX_ARRAY = MAX_PAGE_RECORDS  # the longest array in any metadata


# kind number: message, its fields in order. A number is never used again for another message.
_ROWS_OF_KINDS: tuple[tuple[int, type[Message], tuple[Field, ...]], ...] = (
    (1, Hello, (WHOLE, SHORT, CODECS)),
    (2, Ping, ()),
    (3, Pong, (optional(LOAD),)),
    (4, Open, (SESSION, DIGEST, SPAN, SHORT, WHOLE, optional(SESSION), WHOLE)),
    (5, Opened, (SESSION, SECONDS, SHORT, LOAD, WHOLE, RECEIPT)),
    (6, Forward, (SESSION, WHOLE, WHOLE, ROWS, TENSOR, WHOLE, WHOLE)),
    (7, Result, (SESSION, WHOLE, WHOLE, ROWS, TENSOR, LOAD, RECEIPT, FLAG)),
    (8, Working, (SESSION, WHOLE, WHOLE, FLAG)),
    (9, Renew, (SESSION, FLAG)),
    (10, Close, (SESSION,)),
    (11, Closed, (SESSION, RECEIPT)),
    (12, Fault, (optional(SESSION), CODE, DETAIL, optional(SECONDS))),
    (13, FetchRecords, (KEY, WHOLE)),
    (14, RecordsPage, (RECORDS, FLAG)),
    (15, Push, (SESSION, WHOLE, WHOLE, ROWS, TENSOR, WHOLE, WHOLE)),
    (16, Expect, (SESSION, WHOLE, WHOLE)),
    (17, Connect, (SESSION, WHOLE, SESSION, PEER, ADDRESSES, TICKET)),
    (18, Attach, (SESSION, WHOLE, TICKET)),
    (19, Connected, (SESSION, WHOLE)),
    (30, Goodbye, (SEQUENCE,)),
    (31, DialBack, (PORT, PORT)),
    (32, DialledBack, (SHORT, DETAIL, FLAG)),
)


@dataclass(frozen=True, slots=True)
class _Kind:
    number: int
    message: type[Message]
    names: tuple[str, ...]
    fields: tuple[Field, ...]
    body: int | None  # index of the field that travels as the body


def _kind(number: int, message: type[Message], row: tuple[Field, ...]) -> _Kind:
    names = tuple(field.name for field in fields(message))
    body = next((index for index, field in enumerate(row) if field in (TENSOR, RECORDS)), None)
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
    except BadField as error:
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
        return whole(values[0] if values else None)
    except BadField as error:
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
