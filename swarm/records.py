"""What peers announce: `ModelRef`, `Address`, `PeerRecord`, and a record's signed bytes.

The signed bytes are the record's canonical msgpack array behind a domain prefix; a record that does not encode back to the
very bytes it came from is refused, so one record has one encoding. Knows nothing of the directory or of sockets.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import lru_cache
from typing import Any

import msgpack

from swarm.identity import SIGNATURE_BYTES, Identity, PeerId
from swarm.span import MAX_LAYERS, LayerSpan

PLAIN_VERSION = 1
ASKED_VERSION = 2  # with what a worker is asked
MOVING_VERSION = 3  # and where it is about to go
PLACED_VERSION = 4  # and where it stands: region, relays; a record is of the lowest version that says all of it
MAX_RECORD_BYTES = 900  # signature and body; fits a datagram with room for the reply's own signature
MAX_ADDRESSES = 4
MAX_RELAYS = 2
MAX_REGION_BYTES = 32
MAX_NAME_BYTES = 96
MAX_TEXT_BYTES = 200  # numerics class, device: free text that is only compared and shown
DIGEST_BYTES = 32
RECORD_LIFETIME = 60.0  # seconds from announcement to expiry
ANNOUNCE_INTERVAL = 20.0  # seconds between two announcements of a serving worker
MAX_LIFETIME = 600.0  # seconds; a record that claims to live longer is refused
_V4_BLOCK, _V6_BLOCK = 24, 48  # bits that all addresses of one block share
_CACHED_HOSTS = 4096
_DOMAIN = b"swarm-record-1\0"


class BadRecord(ValueError):
    """Bytes that are no valid record: malformed, oversized, not canonical, forged or expired."""


class PeerState(IntEnum):
    """What a worker is willing to do: only SERVING takes new sessions; DRAINING finishes those it has; LOADING will serve.

    GONE has left. Its record is a tombstone: it outlives what the peer said before, so that no copy of that counts again.
    """

    SERVING = 1
    DRAINING = 2
    LOADING = 3
    GONE = 4


@dataclass(frozen=True, slots=True)
class ModelRef:
    """Which model, exactly: the digest is SHA-256 over the config and every tensor's own SHA-256."""

    name: str
    digest: bytes  # 32 bytes
    layer_count: int

    def __str__(self) -> str:
        return f"{self.name} ({self.digest.hex()[:12]})"


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """One network address of a peer, with a port for each service; 0 where there is none. `host` is a numeric IP."""

    host: str  # normalised text: v4-mapped v6 addresses are written as v4
    data: int  # TCP port of sessions
    directory: int  # UDP port of the DHT
    probe: int  # UDP port of round-trip probes

    @classmethod
    def of(cls, host: str, data: int, directory: int | None = None, probe: int | None = None) -> Address:
        """`--port P`: TCP data and UDP directory on P, the UDP probe on P + 1 unless given. ValueError if no numeric IP."""
        directory = data if directory is None else directory
        beside = data + 1 if data else 0
        return cls(normalise_host(host), data, directory, beside if probe is None else probe)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.data}" if ":" in self.host else f"{self.host}:{self.data}"


def normalise_host(host: str) -> str:
    """A numeric address in one spelling. Raises ValueError for a name: names are resolved at the edge, once."""
    address = ipaddress.ip_address(host)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


@lru_cache(_CACHED_HOSTS)
def address_block(host: str) -> bytes:
    """The /24 (v4) or /48 (v6) that a numeric address is in: what one owner typically holds, however many keys it mints."""
    address = ipaddress.ip_address(normalise_host(host))
    bits = _V4_BLOCK if address.version == 4 else _V6_BLOCK
    return address.packed[: bits // 8]


@dataclass(frozen=True, slots=True)
class Moving:
    """What a worker that serves is about to do: move to other layers, or leave as soon as others hold its own."""

    since: float  # seconds since the epoch, in swarm time
    to: LayerSpan | None  # None: it leaves

    def __str__(self) -> str:
        return "leaving" if self.to is None else f"moving to {self.to}"


@dataclass(frozen=True, slots=True)
class RelayHint:
    """A peer that hands connections on to one that cannot be dialled."""

    peer_id: PeerId
    address: Address


@dataclass(frozen=True, slots=True)
class PeerRecord:
    """A worker's announcement. Rates are measured or None, never invented."""

    peer_id: PeerId
    addresses: tuple[Address, ...]  # 1 to MAX_ADDRESSES, preferred first
    model: ModelRef
    span: LayerSpan
    state: PeerState
    precision: str  # "fp32", "bf16", "int8" or "int4"
    device: str  # such as "cpu" or "cuda: NVIDIA H200"
    memory_total: int  # bytes that the worker may use
    memory_free: int  # bytes of those beside the weights: what caches may take
    numerics: str  # the numerics class: everything that decides bits
    uplink: float | None  # bytes per second, measured
    downlink: float | None  # bytes per second, measured
    tokens_per_second: float | None  # decode rows per second through the span, one session, measured
    cache_tokens_free: int  # rows that the cache budget still takes
    sequence: int  # grows with every announcement of this peer; the highest wins
    expires_at: float  # seconds since the epoch, in swarm time
    asked: float | None = None  # rows per second that came to be computed, of late; None where it is not told
    moving: Moving | None = None  # None: it stays
    region: str | None = None  # a tag that its owner chose, such as "eu-west"
    relays: tuple[RelayHint, ...] = ()  # at most MAX_RELAYS, preferred first; none: its addresses can be dialled

    @property
    def version(self) -> int:
        """Of its encoding: the lowest that says all, so that one record has one."""
        if self.region is not None or self.relays:
            return PLACED_VERSION
        if self.moving is not None:
            return MOVING_VERSION
        return PLAIN_VERSION if self.asked is None else ASKED_VERSION

    @property
    def doing(self) -> str:
        """Its state in a word or a few, for people: `"serving"`, `"moving to 8-15"`."""
        moves = self.moving is not None and self.state is PeerState.SERVING
        return str(self.moving) if moves else self.state.name.lower()

    def expired(self, now: float) -> bool:
        return now >= self.expires_at

    def body(self) -> bytes:
        """The canonical bytes that are signed."""
        packed: bytes = msgpack.packb(
            [
                self.version,
                bytes(self.peer_id),
                [_packed_address(address) for address in self.addresses],
                [self.model.name, self.model.digest, self.model.layer_count],
                [self.span.start, self.span.stop],
                int(self.state),
                self.precision,
                self.device,
                self.memory_total,
                self.memory_free,
                self.numerics,
                self.uplink,
                self.downlink,
                self.tokens_per_second,
                self.cache_tokens_free,
                self.sequence,
                self.expires_at,
                *self._later_fields(),
            ]
        )
        return packed

    def _later_fields(self) -> tuple[Any, ...]:
        """Those that version 1 has not."""
        moving = None
        if self.moving is not None:
            to = self.moving.to
            moving = [self.moving.since, *(() if to is None else (to.start, to.stop))]
        relays = [[bytes(relay.peer_id), _packed_address(relay.address)] for relay in self.relays]
        fields = (self.asked, moving, self.region, relays)
        return fields[: {PLAIN_VERSION: 0, ASKED_VERSION: 1, MOVING_VERSION: 2, PLACED_VERSION: 4}[self.version]]

    def sign(self, identity: Identity) -> SignedRecord:
        """Raises ValueError when the record is another peer's, its bytes exceed MAX_RECORD_BYTES, or nobody would take it."""
        if identity.peer_id != self.peer_id:
            raise ValueError("a record is signed by the peer that it describes")
        _check(self.version, self)
        body = self.body()
        raw = identity.sign(_DOMAIN + body) + body
        if len(raw) > MAX_RECORD_BYTES:
            raise ValueError(f"a record of {len(raw)} bytes exceeds {MAX_RECORD_BYTES}")
        return SignedRecord(self, raw)

    def again(self, sequence: int, expires_at: float, **changes: Any) -> PeerRecord:
        """The next announcement of the same peer."""
        return replace(self, sequence=sequence, expires_at=expires_at, **changes)


def still_here(records: Iterable[PeerRecord]) -> list[PeerRecord]:
    """Without those whose peers have said that they left."""
    return [record for record in records if record.state is not PeerState.GONE]


@dataclass(frozen=True, slots=True)
class SignedRecord:
    """A record with the bytes that prove it: 64 bytes of signature, then the body."""

    record: PeerRecord
    raw: bytes

    @classmethod
    def parse(cls, raw: bytes, now: float) -> SignedRecord:
        """Check size, form, expiry and signature (the costly check last). Raises BadRecord."""
        if not SIGNATURE_BYTES < len(raw) <= MAX_RECORD_BYTES:
            raise BadRecord(f"a record of {len(raw)} bytes")
        record = _decode(raw[SIGNATURE_BYTES:])
        if not now < record.expires_at <= now + MAX_LIFETIME:
            raise BadRecord(f"expires {record.expires_at - now:+.0f} s from now")
        if not record.peer_id.verify(raw[:SIGNATURE_BYTES], _DOMAIN + raw[SIGNATURE_BYTES:]):
            raise BadRecord("not signed by the peer it names")
        return cls(record, raw)


def _packed_address(address: Address) -> list[Any]:
    return [ipaddress.ip_address(address.host).packed, address.data, address.directory, address.probe]


def _unpack_address(packed: list[Any]) -> Address:
    host, *ports = packed
    if type(host) is not bytes:
        raise BadRecord("an address must be packed")
    return Address(normalise_host(str(ipaddress.ip_address(host))), *ports)


def _unpack_moving(packed: list[Any]) -> Moving:
    since, *ends = packed
    return Moving(since, LayerSpan(*ends) if ends else None)


def _decode(body: bytes) -> PeerRecord:
    try:
        fields = msgpack.unpackb(
            body, max_str_len=MAX_TEXT_BYTES, max_bin_len=DIGEST_BYTES, max_array_len=32, max_map_len=0
        )
        (version, peer, addresses, (name, digest, layers), (start, stop), state, *rest) = fields
        if version == PLACED_VERSION:
            rest[-1] = tuple(RelayHint(PeerId(relay), _unpack_address(address)) for relay, address in rest[-1])
        place = {MOVING_VERSION: -1, PLACED_VERSION: -3}.get(version)
        if place is not None and rest[place] is not None:
            rest[place] = _unpack_moving(rest[place])
        record = PeerRecord(
            PeerId(peer),
            tuple(map(_unpack_address, addresses)),
            ModelRef(name, digest, layers),
            LayerSpan(start, stop),
            PeerState(state),
            *rest,
        )
        _check(version, record)
        if record.body() != body:
            raise BadRecord("not in canonical form")
    except BadRecord:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise BadRecord(f"malformed: {error}") from error
    return record


def _check_moving(record: PeerRecord) -> bool:
    moving = record.moving
    if moving is None:
        return True
    to = moving.to
    placed = to is None or (type(to.start) is type(to.stop) is int and to.stop <= record.model.layer_count)
    return placed and type(moving.since) is float and math.isfinite(moving.since)


def _check(version: object, record: PeerRecord) -> None:
    """Types and ranges of what a stranger sent."""

    def whole(value: object, most: int) -> bool:
        return type(value) is int and 0 <= value <= most

    def rate(value: object) -> bool:
        return value is None or (type(value) is float and math.isfinite(value) and value >= 0)

    texts = (record.precision, record.device, record.numerics, record.model.name, record.region or "-")
    addresses = (*record.addresses, *(relay.address for relay in record.relays))
    good = (
        version == record.version
        and 1 <= len(record.addresses) <= MAX_ADDRESSES
        and len(record.relays) <= MAX_RELAYS
        and all(whole(port, 65535) for a in addresses for port in (a.data, a.directory, a.probe))
        # Texts reach terminals and logs, where control characters would be obeyed.
        and all(type(text) is str and text.isprintable() and len(text.encode()) <= MAX_TEXT_BYTES for text in texts)
        and 0 < len(record.model.name.encode()) <= MAX_NAME_BYTES
        and (record.region is None or 0 < len(record.region.encode()) <= MAX_REGION_BYTES)
        and type(record.model.digest) is bytes
        and len(record.model.digest) == DIGEST_BYTES
        and whole(record.model.layer_count, 1 << 16)
        and whole(record.span.start, MAX_LAYERS)
        and whole(record.span.stop, record.model.layer_count)
        and whole(record.memory_total, 1 << 60)
        and whole(record.memory_free, 1 << 60)
        and whole(record.cache_tokens_free, 1 << 60)
        and whole(record.sequence, (1 << 63) - 1)
        and all(map(rate, (record.uplink, record.downlink, record.tokens_per_second, record.asked)))
        and type(record.expires_at) is float
        and math.isfinite(record.expires_at)
        and _check_moving(record)
    )
    if not good:
        raise BadRecord("a field is out of range")
