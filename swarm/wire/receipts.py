"""A worker's signature under the rows that it computed: what was put in, what came out, where, of which model.

Rows are hashed one by one and a receipt signs the hash of those hashes, so that rows rolled back are simply cut off. Worker
and client keep the same `Tally` of one session: one signs what is due, the other holds it against what it sent and got. Pure:
knows nothing of messages on their way, of leases or of who is believed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace

import msgpack

from swarm.errors import LocalFault, ProtocolFault
from swarm.identity import SIGNATURE_BYTES, Identity, PeerId
from swarm.records import DIGEST_BYTES
from swarm.span import LayerSpan
from swarm.wire.rows import SESSION_ID_BYTES, Rows
from swarm.wire.tensors import Tensor

RECEIPT_ROWS = 32  # decode rows that wait for one signature at most
MAX_RECEIPT_BYTES = 640  # signature and body
MAX_NUMERICS_BYTES = 256
INLINE_BYTES = 1 << 20  # rows of more bytes, inputs and outputs together, take over 1 ms to hash: not on an event loop
MAX_POSITION = (1 << 62) - 1
_DOMAIN = b"swarm-receipt-1\0"
_HASH_BYTES = 32  # of SHA-256
_FIELDS = 9  # of a body, the span as two


@dataclass(frozen=True, slots=True)
class Receipt:
    """`signature` is the worker's, under `body()`."""

    session_id: bytes  # 16 bytes, random, of the client's choice: no receipt fits two sessions
    span: LayerSpan  # the session's layers
    start: int  # position of the first row
    stop: int  # one past the last row
    inputs: bytes  # SHA-256 over the SHA-256 of each row's bytes, 32 bytes
    outputs: bytes  # the same of the rows that were answered
    model_digest: bytes  # 32 bytes
    numerics: str  # the worker's numerics class
    signature: bytes  # 64 bytes

    def body(self) -> bytes:
        """The canonical bytes that are signed, their domain in front."""
        return _DOMAIN + self._packed()

    def verify(self, peer_id: PeerId) -> bool:
        """Whether `peer_id` signed this."""
        return peer_id.verify(self.signature, self.body())

    def pack(self) -> bytes:
        return self.signature + self._packed()

    @classmethod
    def parse(cls, raw: bytes) -> Receipt:
        """Size and form; whose it is, `verify` says. Raises ProtocolFault."""
        if not SIGNATURE_BYTES < len(raw) <= MAX_RECEIPT_BYTES:
            raise ProtocolFault(f"a receipt of {len(raw)} bytes")
        try:
            receipt = _decode(raw)
        except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
            raise ProtocolFault(f"a malformed receipt: {error or type(error).__name__}") from error
        if receipt.pack() != raw:
            raise ProtocolFault("a receipt that is not in canonical form")
        return receipt

    def _packed(self) -> bytes:
        packed: bytes = msgpack.packb(
            [
                self.session_id,
                self.span.start,
                self.span.stop,
                self.start,
                self.stop,
                self.inputs,
                self.outputs,
                self.model_digest,
                self.numerics,
            ]
        )
        return packed

    def __repr__(self) -> str:
        return f"<receipt for rows {self.start} to {self.stop} of {self.session_id.hex()[:8]}, layers {self.span}>"


def sign_receipt(
    identity: Identity,
    session_id: bytes,
    span: LayerSpan,
    start: int,
    stop: int,
    inputs: bytes,
    outputs: bytes,
    model_digest: bytes,
    numerics: str,
) -> Receipt:
    """Raises ValueError for what nobody would take."""
    unsigned = Receipt(session_id, span, start, stop, inputs, outputs, model_digest, numerics, bytes(SIGNATURE_BYTES))
    _check(unsigned)
    return replace(unsigned, signature=identity.sign(unsigned.body()))


def row_digests(tensor: Tensor) -> bytes:
    """The SHA-256 of each row [rows, …], one after the other. The costly part: large tensors are for a thread."""
    data = tensor.data.cast("B") if tensor.data.format != "B" or tensor.data.ndim != 1 else tensor.data
    size = len(data) // tensor.shape[0]
    return b"".join(hashlib.sha256(data[start : start + size]).digest() for start in range(0, len(data), size))


def hash_rows(inputs: Tensor, outputs: Tensor) -> tuple[bytes, bytes]:
    """`row_digests` of both."""
    return row_digests(inputs), row_digests(outputs)


class Tally:
    """The rows of one session since its last receipt."""

    def __init__(self, session_id: bytes, span: LayerSpan, model_digest: bytes, numerics: str) -> None:
        self.session_id = session_id
        self.span = span
        self.model_digest = model_digest
        self.numerics = numerics
        self.start = 0  # position of the first row that waits for a receipt
        # Digests of rows `_base` on. Those of the last receipt are kept until the next, because the answer that brought
        # it may never be read: when its last rows are then asked for again, the others wait for a receipt as before.
        self._base = 0
        self._inputs = bytearray()
        self._outputs = bytearray()
        # And of all rows, for a session that begins with some of these: it has receipts of its own from the first row on
        self._all_inputs = bytearray()
        self._all_outputs = bytearray()

    def branch(self, session_id: bytes, rows: int) -> Tally:
        """Of another session that begins with the first `rows` of this one, which wait for a receipt. Raises LocalFault."""
        size = rows * _HASH_BYTES
        if not 0 < size <= len(self._all_inputs):
            raise LocalFault(f"{self!r} does not hold the digests of its first {rows} rows")
        tally = Tally(session_id, self.span, self.model_digest, self.numerics)
        tally.add_digests(0, bytes(self._all_inputs[:size]), bytes(self._all_outputs[:size]))
        return tally

    @property
    def stop(self) -> int:
        """One past the last row."""
        return self._base + len(self._inputs) // _HASH_BYTES

    @property
    def pending(self) -> int:
        """Rows that wait for a receipt."""
        return self.stop - self.start

    def add(self, position: int, inputs: Tensor, outputs: Tensor) -> None:
        """Rows from `position` on; a smaller one than `stop` rolls back to it. Raises LocalFault for a gap."""
        self.add_digests(position, *hash_rows(inputs, outputs))

    def add_digests(self, position: int, inputs: bytes, outputs: bytes) -> None:
        """As `add`, of what `row_digests` gave."""
        if position > self.stop or not inputs or len(inputs) != len(outputs) or len(inputs) % _HASH_BYTES:
            raise LocalFault(f"digests of rows at {position} do not follow {self!r}")
        self.roll_back(position)
        for part, whole, new in (
            (self._inputs, self._all_inputs, inputs),
            (self._outputs, self._all_outputs, outputs),
        ):
            del whole[position * _HASH_BYTES :]
            part += new
            whole += new

    def roll_back(self, position: int) -> None:
        """Rows from `position` on are computed anew, if there are any."""
        if position >= self.stop:
            return
        self._base = min(self._base, position)
        if position < self.start:
            self.start = self._base
        kept = (position - self._base) * _HASH_BYTES
        del self._inputs[kept:]
        del self._outputs[kept:]

    def due(self, rows: Rows) -> bool:
        """Whether the answer that carries the last rows, which were computed so, carries a receipt."""
        return self.pending > 0 and (rows is Rows.CHUNK or self.pending >= RECEIPT_ROWS)

    def digests(self) -> tuple[bytes, bytes]:
        """What a receipt for the pending rows says of inputs and outputs."""
        skipped = (self.start - self._base) * _HASH_BYTES
        inputs, outputs = memoryview(self._inputs)[skipped:], memoryview(self._outputs)[skipped:]
        return hashlib.sha256(inputs).digest(), hashlib.sha256(outputs).digest()

    def sign(self, identity: Identity) -> Receipt:
        """The receipt for the pending rows, which wait no longer."""
        receipt = sign_receipt(
            identity,
            self.session_id,
            self.span,
            self.start,
            self.stop,
            *self.digests(),
            self.model_digest,
            self.numerics,
        )
        self._settle()
        return receipt

    def check(self, receipt: Receipt | None, peer_id: PeerId) -> Receipt:
        """Hold a worker's receipt against the pending rows, which then wait no longer. Raises ProtocolFault."""
        if receipt is None:
            raise ProtocolFault(f"peer {peer_id.short} gave no receipt for rows {self.start} to {self.stop}")
        expected = Receipt(
            self.session_id,
            self.span,
            self.start,
            self.stop,
            *self.digests(),
            self.model_digest,
            self.numerics,
            receipt.signature,
        )
        for field in fields(Receipt):
            said, ours = getattr(receipt, field.name), getattr(expected, field.name)
            if said != ours:
                raise ProtocolFault(
                    f"peer {peer_id.short} signed other {field.name} than those of rows {self.start} to {self.stop}: "
                    f"{_show(said)} where {_show(ours)} is true"
                )
        if not receipt.verify(peer_id):
            raise ProtocolFault(
                f"peer {peer_id.short} gave a receipt for rows {self.start} to {self.stop} that it did not sign"
            )
        self._settle()
        return receipt

    def _settle(self) -> None:
        settled = (self.start - self._base) * _HASH_BYTES
        del self._inputs[:settled]
        del self._outputs[:settled]
        self._base, self.start = self.start, self.start + len(self._inputs) // _HASH_BYTES

    def __repr__(self) -> str:
        return f"<tally of {self.session_id.hex()[:8]}: rows {self.start} to {self.stop} wait for a receipt>"


def _show(value: object) -> str:
    return value.hex()[:12] if isinstance(value, bytes) else str(value)


def _decode(raw: bytes) -> Receipt:
    values = msgpack.unpackb(
        raw[SIGNATURE_BYTES:],
        max_str_len=MAX_NUMERICS_BYTES,
        max_bin_len=DIGEST_BYTES,
        max_array_len=_FIELDS,
        max_map_len=0,
        max_ext_len=0,
    )
    if type(values) is not list:
        raise ValueError("no array")
    session_id, first, last, start, stop, inputs, outputs, model_digest, numerics = values
    if type(first) is not int or type(last) is not int:
        raise ValueError("no span of layers")
    span, signature = LayerSpan(first, last), raw[:SIGNATURE_BYTES]
    receipt = Receipt(session_id, span, start, stop, inputs, outputs, model_digest, numerics, signature)
    _check(receipt)
    return receipt


def _check(receipt: Receipt) -> None:
    """Types and ranges of what a stranger sent. Raises ValueError."""

    def raw(value: object, size: int) -> bool:
        return type(value) is bytes and len(value) == size

    good = (
        raw(receipt.session_id, SESSION_ID_BYTES)
        and raw(receipt.inputs, _HASH_BYTES)
        and raw(receipt.outputs, _HASH_BYTES)
        and raw(receipt.model_digest, DIGEST_BYTES)
        and type(receipt.start) is int
        and type(receipt.stop) is int
        and 0 <= receipt.start < receipt.stop <= MAX_POSITION
        and type(receipt.numerics) is str
        and receipt.numerics.isprintable()  # it reaches terminals and logs, where control characters would be obeyed
        and len(receipt.numerics.encode()) <= MAX_NUMERICS_BYTES
    )
    if not good:
        raise ValueError("a field is out of range")
