import contextlib

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.strategies import messages

from swarm.errors import LocalFault, ProtocolFault
from swarm.identity import Identity, PeerId
from swarm.span import LayerSpan
from swarm.wire import messages as m
from swarm.wire import packing
from swarm.wire.fields import MAX_WHOLE
from swarm.wire.frames import MAX_METADATA_BYTES
from swarm.wire.receipts import sign_receipt
from swarm.wire.tensors import PLANES, RAW

KINDS = sorted(packing._KINDS)


@given(messages, st.sampled_from([RAW, PLANES]))
def test_every_message_comes_back(message, codec):
    kind, metadata, body = packing.pack_message(message, codec)
    draft = packing.parse_metadata(kind, metadata)
    assert draft.body_bytes == len(body)
    assert draft.finish(body) == message


@given(st.integers(0, 255), st.binary(max_size=200))
def test_random_metadata_is_a_protocol_fault_or_a_message(kind, metadata):
    with contextlib.suppress(ProtocolFault):
        packing.parse_metadata(kind, metadata)


scalars = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.binary(max_size=40)
values = st.recursive(scalars | st.text(max_size=20), lambda inner: st.lists(inner, max_size=6), max_leaves=20)


@given(st.sampled_from(KINDS), st.lists(values, max_size=7))
def test_arrays_of_the_wrong_values_are_protocol_faults_or_messages(kind, fields):
    with contextlib.suppress(ProtocolFault):
        packing.parse_metadata(kind, msgpack.packb(fields))


@pytest.mark.parametrize(
    "metadata",
    [
        b"\x91" * 4000,  # nested 4000 deep
        b"\xdc\xff\xff" + b"\x90" * 100,  # an array of 65535, mostly missing
        b"\xdd\xff\xff\xff\xff",  # an array of 2^32 - 1
        b"\xc6\xff\xff\xff\xff",  # a binary of 2^32 - 1
        b"\x91\xd6\xff\x00\x00\x00\x00",  # a timestamp
        b"\x91\x81\x01\x02",  # a map
        b"\x91\xa1\xff",  # broken UTF-8
        b"\x90\x90",  # something behind the end
        b"\x05",
        b"",
    ],
)
def test_hostile_metadata_is_a_protocol_fault(metadata):
    for kind in KINDS:
        with pytest.raises(ProtocolFault):
            packing.parse_metadata(kind, metadata)


def test_a_field_out_of_range_names_the_message():
    forward = [bytes(16), 0, 0, 1, ["fp32", [1, 2], "raw", 8], 0, 0]
    assert packing.parse_metadata(6, msgpack.packb(forward)).body_bytes == 8
    for index, wrong in [(0, bytes(15)), (1, -1), (2, True), (3, 3), (4, ["fp32", [1 << 40] * 4, "raw", 8])]:
        broken = list(forward)
        broken[index] = wrong
        with pytest.raises(ProtocolFault):
            packing.parse_metadata(6, msgpack.packb(broken))
    with pytest.raises(ProtocolFault, match="unknown kind 99"):
        packing.parse_metadata(99, b"\x90")


def test_a_hello_of_another_version_still_tells_its_version():
    assert packing.parse_version(msgpack.packb([7, {}, "no field that we know"][:1])) == 7
    assert packing.parse_version(msgpack.packb([7, 1, 2, 3])) == 7
    with pytest.raises(ProtocolFault):
        packing.parse_version(msgpack.packb(["7"]))


def test_what_no_peer_would_take_is_a_local_fault():
    with pytest.raises(LocalFault):
        packing.pack_message(m.Open(bytes(16), bytes(32), LayerSpan(0, 1), "bf16", object()))


def test_ids_travel_as_plain_bytes():
    key = PeerId(bytes(range(32)))
    _, metadata, _ = packing.pack_message(m.Open(bytes(16), key, LayerSpan(0, 1), "bf16", 1))
    assert msgpack.unpackb(metadata)[1] == bytes(key)


RECEIPT = sign_receipt(
    Identity.from_seed(b"w" * 32), bytes(16), LayerSpan(0, 4), 0, 128, bytes(32), bytes(32), bytes(32), "n" * 256
)


def test_the_largest_metadata_with_a_receipt_fits_its_frame_many_times():
    tensor = m.Tensor("fp32", (1, 1), memoryview(bytes(4)))
    load = m.Load(MAX_WHOLE, MAX_WHOLE, MAX_WHOLE, 1e300)
    result = m.Result(bytes(16), MAX_WHOLE, MAX_WHOLE, m.Rows.DECODE, tensor, load, RECEIPT)
    _, metadata, _ = packing.pack_message(result)
    assert len(metadata) < MAX_METADATA_BYTES // 4
    assert packing.parse_metadata(7, metadata).finish(bytes(4)).receipt == RECEIPT


@pytest.mark.parametrize("wrong", [b"", RECEIPT.pack()[:-1], RECEIPT.pack() + b"\0", bytes(600), "text", 7, [b"x"]])
def test_a_malformed_receipt_is_a_protocol_fault(wrong):
    load = [0, 0, 0, 0.0]
    for kind, fields in (
        (5, [bytes(16), 1.0, "n", load, 0]),
        (7, [bytes(16), 0, 0, 1, ["fp32", [1, 2], "raw", 8], load]),
        (11, [bytes(16)]),
    ):
        rest = [False] if kind == 7 else []
        packing.parse_metadata(kind, msgpack.packb([*fields, None, *rest]))
        with pytest.raises(ProtocolFault, match="receipt"):
            packing.parse_metadata(kind, msgpack.packb([*fields, wrong, *rest]))
