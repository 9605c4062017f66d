"""Records come from strangers: whatever the bytes, a record is valid and canonical, or BadRecord says why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.records import NOW, identity, make_record, records

from swarm.records import (
    MAX_LIFETIME,
    MAX_RECORD_BYTES,
    Address,
    BadRecord,
    Moving,
    PeerRecord,
    PeerState,
    RelayHint,
    SignedRecord,
    address_block,
)
from swarm.span import LayerSpan

EXAMPLE = make_record(0, "2-5", peer_id=identity(0).peer_id)
ESCAPE = "\x1b[2J"


def forge(**changes: Any) -> bytes:
    """EXAMPLE with fields changed at the level of the packing, rightly signed: what a hostile peer can make."""
    places = ["version", "peer_id", "addresses", "model", "span", "state", "precision", "device", "memory_total"]
    places += ["memory_free", "numerics", "uplink", "downlink", "tokens_per_second", "cache_tokens_free", "sequence"]
    places += ["expires_at"]
    fields = msgpack.unpackb(EXAMPLE.body())
    for name, value in changes.items():
        fields[places.index(name)] = value
    return signed(msgpack.packb(fields))


def signed(body: bytes) -> bytes:
    return identity(0).sign(b"swarm-record-1\0" + body) + body


@given(records())
@settings(max_examples=60)
def test_a_signed_record_reads_back_as_itself(record: PeerRecord) -> None:
    raw = record.sign(identity(0)).raw
    parsed = SignedRecord.parse(raw, NOW)
    assert parsed.record == record
    assert parsed.record.body() == raw[64:]
    assert len(raw) <= MAX_RECORD_BYTES


def test_what_a_worker_is_asked_is_told_in_a_few_bytes() -> None:
    plain = EXAMPLE.sign(identity(0)).raw
    told = replace(EXAMPLE, asked=12.5)
    assert SignedRecord.parse(told.sign(identity(0)).raw, NOW).record == told
    assert len(told.sign(identity(0)).raw) - len(plain) <= 9


@pytest.mark.parametrize("asked", [None, 12.5])
@pytest.mark.parametrize("to", [None, LayerSpan(4, 8)])
def test_where_a_worker_is_about_to_go_is_told(asked: float | None, to: LayerSpan | None) -> None:
    told = replace(EXAMPLE, asked=asked, moving=Moving(NOW, to))
    assert SignedRecord.parse(told.sign(identity(0)).raw, NOW).record == told
    assert told.doing == ("leaving" if to is None else "moving to 4-7")
    assert msgpack.unpackb(told.body())[0] == 3


@pytest.mark.parametrize(
    "moving",
    [None, [], 3, "x", [1], [NOW, 4], [NOW, 4, 4], [NOW, 4, 99], [NOW, 4.0, 8.0], [NOW, 4, 8, 9], [float("nan")]],
)
def test_no_record_says_nonsense_of_where_it_goes(moving: object) -> None:
    fields = msgpack.unpackb(EXAMPLE.body())
    with pytest.raises(BadRecord):
        SignedRecord.parse(signed(msgpack.packb([3, *fields[1:], 1.0, moving])), NOW)


RELAY = [bytes(identity(1).peer_id), [bytes(4), 7700, 7700, 7701]]
HINT = RelayHint(identity(1).peer_id, Address("0.0.0.0", 7700, 7700, 7701))


@pytest.mark.parametrize("region", [None, "eu-west"])
@pytest.mark.parametrize("relays", [(), (HINT,), (HINT, HINT)])
@pytest.mark.parametrize("moving", [None, Moving(NOW, None)])
def test_where_a_worker_stands_is_told(
    region: str | None, relays: tuple[RelayHint, ...], moving: Moving | None
) -> None:
    told = replace(EXAMPLE, region=region, relays=relays, moving=moving)
    raw = told.sign(identity(0)).raw
    assert SignedRecord.parse(raw, NOW).record == told
    assert len(raw) <= MAX_RECORD_BYTES


@pytest.mark.parametrize(
    ("region", "relays"),
    [
        (None, []),
        ("", [RELAY]),
        ("x" * 33, []),
        (3, []),
        (ESCAPE, []),
        ("eu", [RELAY] * 3),
        ("eu", None),
        ("eu", [3]),
        ("eu", [[RELAY[0]]]),
        ("eu", [[b"", RELAY[1]]]),
        ("eu", [[RELAY[0], [bytes(4), 1, 1, 99999]]]),
    ],
)
def test_no_record_says_nonsense_of_where_it_stands(region: object, relays: object) -> None:
    fields = msgpack.unpackb(EXAMPLE.body())
    with pytest.raises(BadRecord):
        SignedRecord.parse(signed(msgpack.packb([4, *fields[1:], None, None, region, relays])), NOW)


def test_records_of_the_version_before_are_read_and_written_as_ever() -> None:
    fields = msgpack.unpackb(EXAMPLE.body())
    assert (fields[0], len(fields)) == (1, 17)
    assert SignedRecord.parse(signed(msgpack.packb(fields)), NOW).record.asked is None


@pytest.mark.parametrize("asked", [None, -1.0, float("nan"), float("inf"), 3, "3"])
@pytest.mark.parametrize("version", [1, 2])
def test_no_version_says_nonsense_of_what_is_asked(version: int, asked: object) -> None:
    fields = msgpack.unpackb(EXAMPLE.body())
    with pytest.raises(BadRecord):
        SignedRecord.parse(signed(msgpack.packb([version, *fields[1:], asked])), NOW)


@given(records(), st.data())
@settings(max_examples=60)
def test_altered_bytes_are_bad(record: PeerRecord, data: st.DataObject) -> None:
    raw = bytearray(record.sign(identity(0)).raw)
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BadRecord):
        SignedRecord.parse(bytes(raw), NOW)


@given(st.binary(max_size=1000))
@settings(max_examples=200)
def test_random_bytes_are_bad(raw: bytes) -> None:
    with pytest.raises(BadRecord):
        SignedRecord.parse(raw, NOW)


_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 1 << 40) | st.floats() | st.text(max_size=8) | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=12,
)


@given(st.integers(0, 16), _values, st.booleans())
@settings(max_examples=200)
def test_well_packed_nonsense_is_bad_or_canonical(place: int, value: object, bare: bool) -> None:
    fields = msgpack.unpackb(EXAMPLE.body())
    fields[place] = value
    body = msgpack.packb(value if bare else fields)
    try:
        parsed = SignedRecord.parse(signed(body), NOW)
    except BadRecord:
        return
    assert parsed.record.body() == body
    assert type(parsed.record.span.start) is int


@pytest.mark.parametrize(
    "changes",
    [
        {"span": [0.0, 2.5]},
        {"span": [False, True]},
        {"span": [2, 2]},
        {"span": [2, 11]},
        {"span": [2, 5000], "model": ["m", bytes(32), 6000]},
        {"version": 2},
        {"version": True},
        {"state": 5},
        {"state": True},
        {"state": 1.0},
        {"addresses": []},
        {"addresses": [[bytes(4), 1, 1, 1]] * 5},
        {"addresses": [[bytes(5), 1, 1, 1]]},
        {"addresses": [["192.0.2.7", 1, 1, 1]]},
        {"addresses": [[bytes(10) + b"\xff\xff" + bytes(4), 1, 1, 1]]},
        {"addresses": [[bytes(4), 1, 65536, 1]]},
        {"addresses": [[bytes(4), 1, 1]]},
        {"model": ["", bytes(32), 10]},
        {"model": ["m", bytes(31), 10]},
        {"model": ["m" * 97, bytes(32), 10]},
        {"model": ["evil" + ESCAPE, bytes(32), 10]},
        {"device": ESCAPE},
        {"numerics": "two\nlines"},
        {"precision": 16},
        {"device": "x" * 201},
        {"uplink": 1},
        {"uplink": float("nan")},
        {"downlink": float("inf")},
        {"tokens_per_second": -1.0},
        {"memory_total": -1},
        {"memory_free": True},
        {"sequence": 1 << 63},
        {"expires_at": int(NOW + 60)},
        {"expires_at": float("nan")},
        {"peer_id": bytes(31)},
    ],
    ids=str,
)
def test_a_field_out_of_range_is_bad(changes: dict[str, Any]) -> None:
    with pytest.raises(BadRecord):
        SignedRecord.parse(forge(**changes), NOW)


def test_forge_alters_nothing_by_itself() -> None:
    assert SignedRecord.parse(forge(), NOW).record == EXAMPLE


def test_another_encoding_of_the_same_record_is_bad() -> None:
    body = EXAMPLE.body()
    assert body[0] == 0xDC, "seventeen fields: array 16"
    wide = b"\xdd\x00" + b"\x00" + body[1:]
    with pytest.raises(BadRecord, match="canonical"):
        SignedRecord.parse(signed(wide), NOW)


def test_bytes_after_the_record_are_bad() -> None:
    with pytest.raises(BadRecord):
        SignedRecord.parse(signed(EXAMPLE.body() + b"\xc0"), NOW)


@pytest.mark.parametrize("expires_at", [NOW, NOW - 1, NOW + MAX_LIFETIME + 1])
def test_expiry_is_in_the_future_and_not_far(expires_at: float) -> None:
    raw = replace(EXAMPLE, expires_at=expires_at).sign(identity(0)).raw
    with pytest.raises(BadRecord, match="from now"):
        SignedRecord.parse(raw, NOW)


def test_a_record_expires_at_its_time() -> None:
    assert not EXAMPLE.expired(EXAMPLE.expires_at - 0.001)
    assert EXAMPLE.expired(EXAMPLE.expires_at)


def test_only_the_peer_itself_signs() -> None:
    with pytest.raises(ValueError, match="signed by the peer"):
        EXAMPLE.sign(identity(1))
    body = EXAMPLE.body()
    with pytest.raises(BadRecord, match="not signed"):
        SignedRecord.parse(identity(1).sign(b"swarm-record-1\0" + body) + body, NOW)


@pytest.mark.parametrize(
    "changes", [{"uplink": 5}, {"memory_free": 1.5}, {"device": ESCAPE}, {"addresses": ()}], ids=str
)
def test_what_nobody_would_take_is_not_signed(changes: dict[str, Any]) -> None:
    with pytest.raises(BadRecord):
        replace(EXAMPLE, **changes).sign(identity(0))


def test_a_record_too_long_for_a_datagram_is_not_signed() -> None:
    long = replace(EXAMPLE, device="x" * 200, numerics="y" * 200, precision="z" * 200, addresses=EXAMPLE.addresses * 4)
    with pytest.raises(ValueError, match="exceeds"):
        replace(long, model=replace(long.model, name="n" * 96)).sign(identity(0))


def test_the_next_announcement() -> None:
    again = EXAMPLE.again(2, NOW + 90.0, state=PeerState.DRAINING)
    assert (again.sequence, again.expires_at, again.state) == (2, NOW + 90.0, PeerState.DRAINING)
    assert again.span == LayerSpan(2, 6)


def test_addresses() -> None:
    assert Address.of("192.0.2.1", 7700) == Address("192.0.2.1", 7700, 7700, 7701)
    assert Address.of("::ffff:192.0.2.1", 7700).host == "192.0.2.1"
    assert Address.of("192.0.2.1", 7700, directory=7800, probe=7900) == Address("192.0.2.1", 7700, 7800, 7900)
    assert Address.of("192.0.2.1", 0) == Address("192.0.2.1", 0, 0, 0)
    assert str(Address.of("2001:DB8:0::1", 7700)) == "[2001:db8::1]:7700"
    assert str(Address.of("192.0.2.1", 7700)) == "192.0.2.1:7700"
    with pytest.raises(ValueError, match="example"):
        Address.of("example.net", 7700)


def test_a_model_shows_its_name_and_digest() -> None:
    assert str(EXAMPLE.model) == "llama-test (000102030405)"


def test_addresses_of_one_owner_are_one_block() -> None:
    assert address_block("192.0.2.1") == address_block("192.0.2.200") == address_block("::ffff:192.0.2.7")
    assert address_block("192.0.2.1") != address_block("192.0.3.1")
    assert address_block("2001:db8:1:2::1") == address_block("2001:db8:1:3::1") != address_block("2001:db8:2::1")
    with pytest.raises(ValueError, match="localhost"):
        address_block("localhost")
