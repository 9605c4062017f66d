import pytest
from support.announcements import MODEL, identity, record

from swarm.discovery.addresses import pack_endpoint, reach, unpack_endpoint
from swarm.discovery.keys import PUBLIC, distance, fingerprint, node_id
from swarm.span import LayerSpan


@pytest.mark.parametrize(
    ("span", "buckets"), [((0, 16), [0]), ((0, 17), [0, 1]), ((15, 17), [0, 1]), ((16, 32), [1]), ((31, 32), [1])]
)
def test_a_record_is_found_under_every_bucket_it_touches_and_the_index(span, buckets):
    described = record(identity(1), span=LayerSpan(*span))
    assert PUBLIC.keys_of(described) == [*(PUBLIC.bucket_key(MODEL.digest, bucket) for bucket in buckets), PUBLIC.index]
    assert set(PUBLIC.keys_of(described)) - {PUBLIC.index} <= set(PUBLIC.keys_of_model(MODEL))


def test_a_model_is_read_under_all_its_buckets():
    assert PUBLIC.keys_of_model(MODEL) == [PUBLIC.bucket_key(MODEL.digest, 0), PUBLIC.bucket_key(MODEL.digest, 1)]


def test_node_ids_are_hashes_apart_from_keys():
    peer = identity(1).peer_id
    assert len(node_id(peer)) == 20
    assert node_id(peer) not in (peer[:20], PUBLIC.bucket_key(peer, 0), node_id(identity(2).peer_id))


def test_distance_is_a_metric_of_xor():
    a, b, c = (node_id(identity(number).peer_id) for number in (1, 2, 3))
    assert distance(a, a) == 0
    assert distance(a, b) == distance(b, a)
    assert distance(a, c) <= distance(a, b) + distance(b, c)


def test_a_fingerprint_is_of_the_set():
    assert fingerprint([b"a" * 20, b"b" * 20]) == fingerprint([b"b" * 20, b"a" * 20]) != fingerprint([b"a" * 20])


@pytest.mark.parametrize("endpoint", [("192.0.2.1", 7700), ("2001:db8::1", 1), ("127.0.0.1", 65535)])
def test_addresses_travel_packed(endpoint):
    assert unpack_endpoint(pack_endpoint(endpoint)) == endpoint


def test_a_mapped_address_is_a_v4_address():
    assert unpack_endpoint(bytes(10) + b"\xff\xff\xc0\x00\x02\x01" + b"\x1e\x14") == ("192.0.2.1", 7700)


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"localhost:1",
        bytes(6),
        b"\x7f\0\0\1\0\0",
        b"\xe0\0\0\1\0\1",
        b"\xff\xff\xff\xff\0\1",
        bytes(18),
        "x",
        None,
        7,
    ],
)
def test_what_is_no_address_of_a_host_is_refused(packed):
    with pytest.raises(ValueError, match="address"):
        unpack_endpoint(packed)


def test_reach():
    assert [reach(host) for host in ("127.0.0.1", "::1", "192.168.1.1", "fe80::1", "8.8.8.8", "2600::1")] == [
        0,
        0,
        1,
        1,
        2,
        2,
    ]
