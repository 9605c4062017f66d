import dataclasses

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.announcements import announcement, identity

from swarm.discovery import packets
from swarm.discovery.packets import MAX_DATAGRAM, MIN_REQUEST, BadDatagram, Method, Request

NONCE = bytes(range(20))
KEY = b"k" * 20
REQUESTS = [
    Request(NONCE, Method.PING, b"", b"", ()),
    Request(NONCE, Method.FIND, b"s" * 20, b"t" * 8, (KEY, 1)),
    Request(NONCE, Method.PAGE, b"s" * 20, b"t" * 8, (KEY, bytes(20), b"\xff" * 20)),
    Request(NONCE, Method.STORE, b"s" * 20, b"t" * 8, (KEY, b"r" * 900)),
]
TOKEN = b"t" * 8
HERE = ("192.0.2.1", 7700)


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: request.method.name)
def test_requests_come_back_as_they_were_and_are_padded(request_):
    data = packets.pack_request(request_)
    assert MIN_REQUEST <= len(data) <= MAX_DATAGRAM <= 3 * MIN_REQUEST
    assert packets.kind_and_nonce(data) == (True, NONCE)
    assert packets.parse_request(data) == request_


def test_responses_come_back_as_they_were():
    data = packets.pack_response(NONCE, identity(1), TOKEN, HERE, 7, 1234.5, [1, [b"x"]])
    response = packets.parse_response(data)
    assert packets.kind_and_nonce(data) == (False, NONCE)
    assert response == packets.Response(identity(1).peer_id, TOKEN, HERE, 7, 1234.5, [1, [b"x"]])


def test_the_largest_answer_fits_a_datagram():
    nodes = [packets.pack_node(KEY, ("2001:db8::1", 65535))] * 8
    room = packets.ANSWER_ROOM - sum(len(node) + packets.NODE_OVERHEAD for node in nodes)
    records = [b"r" * 300] * (room // (300 + packets.RECORD_OVERHEAD))
    answers = [[nodes, 512, b"f" * 8, records], [b"l" * 20, [b"r" * (packets.ANSWER_ROOM - packets.RECORD_OVERHEAD)]]]
    for answer in answers:
        data = packets.pack_response(NONCE, identity(1), TOKEN, ("2001:db8::1", 65535), 65535, 1e30, answer)
        assert len(data) <= MAX_DATAGRAM
    assert packets.ANSWER_ROOM >= 900 + packets.RECORD_OVERHEAD


def test_any_change_to_a_response_is_noticed():
    data = packets.pack_response(NONCE, identity(1), TOKEN, HERE, 7, 0.0, [])
    for place in range(1, len(data)):
        with pytest.raises(BadDatagram):
            packets.parse_response(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])


def body(*fields):
    return b"\0" + NONCE + msgpack.packb([*fields, bytes(MIN_REQUEST)])


@pytest.mark.parametrize(
    "data",
    [
        body(1, 1, b"", b"", []),  # another version
        body(2, 9, b"", b"", []),  # no such method
        body(2, "ping", b"", b"", []),
        body(2, True, b"", b"", []),
        body(2, 1, b"short", b"", []),
        body(2, 1, None, b"", []),
        body(2, 1, b"", "token", []),
        body(2, 1, b"", b"", [1]),
        body(2, 2, b"", b"", [KEY]),
        body(2, 2, b"", b"", [KEY, 2]),
        body(2, 2, b"", b"", [KEY, -1]),
        body(2, 2, b"", b"", [KEY, True]),
        body(2, 2, b"", b"", [KEY[:-1], 1]),
        body(2, 2, b"", b"", ["k" * 20, 1]),
        body(2, 4, b"", b"", [KEY, b"r" * 901]),
        body(2, 1, b"", b"", {}),
        packets.pack_request(REQUESTS[0])[:-1],  # not padded enough
    ],
)
def test_a_request_against_the_rules_is_refused(data):
    with pytest.raises(BadDatagram):
        packets.parse_request(data)


def test_sizes_are_checked_before_anything_else():
    for data in (b"", b"\0", b"\0" + NONCE, b"\2" + bytes(500), b"\0" + bytes(MAX_DATAGRAM)):
        with pytest.raises(BadDatagram):
            packets.kind_and_nonce(data)


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | st.binary(max_size=24)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


def only_bad_datagram(parse, data):
    try:
        return parse(data)
    except BadDatagram:
        return None


@given(st.binary(max_size=MAX_DATAGRAM + 10))
def test_random_bytes_raise_nothing_else(data):
    only_bad_datagram(packets.kind_and_nonce, data)
    only_bad_datagram(packets.parse_request, data)
    only_bad_datagram(packets.parse_response, data)


@given(st.lists(anything, min_size=5, max_size=6))
def test_random_fields_of_a_request_raise_nothing_else(fields):
    data = b"\0" + NONCE + msgpack.packb([2, *fields]) + b""
    only_bad_datagram(packets.parse_request, data)
    only_bad_datagram(packets.parse_request, b"\0" + NONCE + msgpack.packb([2, *fields[:4], bytes(MIN_REQUEST)]))


@given(anything)
def test_random_bodies_signed_by_a_liar_raise_nothing_else(value):
    packed = msgpack.packb(value)
    signature = identity(1).sign(b"swarm-response-1\0" + NONCE + packed)
    only_bad_datagram(packets.parse_response, b"\1" + NONCE + identity(1).peer_id + signature + packed)


@given(st.lists(anything, max_size=6))
def test_random_answers_raise_nothing_else(answer):
    only_bad_datagram(packets.parse_found, answer)
    only_bad_datagram(packets.parse_page, answer)


@given(anything)
def test_one_lie_among_the_nodes_spoils_the_answer(node):
    with pytest.raises(BadDatagram):
        packets.parse_found([[packets.pack_node(KEY, HERE), node], 0, b"f" * 8, []])


def test_nested_and_boastful_msgpack_is_refused():
    for packed in (b"\x91" * 1000, b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xc1", b"\xd6\xff" + bytes(4)):
        with pytest.raises(BadDatagram):
            packets.parse_request(b"\0" + NONCE + packed + bytes(MIN_REQUEST))


def test_a_record_of_the_largest_size_can_be_stored():
    request = dataclasses.replace(REQUESTS[3], arguments=(KEY, announcement(identity(1)).raw))
    assert packets.parse_request(packets.pack_request(request)).arguments[1] == announcement(identity(1)).raw
