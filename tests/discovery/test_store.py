import dataclasses
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.announcements import MODEL, announcement, identity

from swarm.config import DirectoryConfig
from swarm.discovery.keys import HIGHEST, LOWEST, PUBLIC, node_id
from swarm.discovery.store import MAX_PAGE_RECORDS, MAX_SEQUENCES, MAX_VERIFIED, RecordStore, Verifier
from swarm.records import MAX_LIFETIME, MAX_RECORD_BYTES, ModelRef, PeerState, SignedRecord
from swarm.span import LayerSpan

NOW = 1000.0
LOW, HIGH = PUBLIC.keys_of_model(MODEL)
SMALL = DirectoryConfig(max_records_per_key=8, max_records=40, max_keys_per_peer=4)


def make_store(config=SMALL, secret=b"s"):
    return RecordStore(config, Verifier(), secret)


def signed(number, **options):
    return announcement(identity(number), now=NOW, **options)


def peers(store, key=LOW, now=NOW):
    return {held.signed.record.peer_id for held in store.held(key, now)}


def check(store):
    """What must hold whatever was put."""
    held = [(key, peer) for key, bucket in store._buckets.items() for peer in bucket._records]
    assert store.size == len(held) <= store.config.max_records
    assert sorted(held) == sorted((key, peer) for peer, keys in store._keys.items() for key in keys)
    assert sorted(held) == sorted(entry for entries in store._networks.values() for entry in entries)
    assert all(len(bucket) <= store.config.max_records_per_key for bucket in store._buckets.values())
    assert all(len(keys) <= store.config.max_keys_per_peer for keys in store._keys.values())


def test_one_key_holds_a_set_of_peers():
    store = make_store()
    for number in range(5):
        assert store.put(LOW, signed(number).raw, NOW)
    assert peers(store) == {identity(number).peer_id for number in range(5)}


def test_of_named_peers_alone_where_they_are_named():
    store = make_store()
    store.allow = frozenset({identity(1).peer_id})
    assert [store.put(LOW, signed(number).raw, NOW) for number in range(3)] == [False, True, False]
    assert peers(store) == {identity(1).peer_id}


def test_the_highest_sequence_wins_in_any_order():
    store = make_store()
    for sequence in (2, 1, 3, 3, 2):
        held = store.put(LOW, signed(1, sequence=sequence).raw, NOW)
        assert held == (sequence >= store.held(LOW, NOW)[0].signed.record.sequence)
    assert [held.signed.record.sequence for held in store.held(LOW, NOW)] == [3]


def test_a_newer_record_supersedes_the_older_under_every_key():
    store = make_store()
    for key in (LOW, HIGH, PUBLIC.index):
        store.put(key, signed(1).raw, NOW)
    assert store.put(LOW, signed(1, sequence=2, span=LayerSpan(0, 16)).raw, NOW)
    assert peers(store, HIGH) == set()
    assert [held.signed.record.sequence for key in (LOW, PUBLIC.index) for held in store.held(key, NOW)] == [2, 2]
    assert not store.put(HIGH, signed(1).raw, NOW)
    check(store)


def test_a_record_under_a_key_that_is_not_its_own_is_refused():
    store = make_store()
    assert not store.put(HIGH, signed(1, span=LayerSpan(0, 16)).raw, NOW)
    assert not store.put(b"k" * 20, signed(1).raw, NOW)
    assert store.size == 0


def broken_records():
    good, other = signed(1), signed(2)
    oversized = dataclasses.replace(good.record, numerics="n" * 200, device="d" * 200, precision="p" * 200)
    body = dataclasses.replace(oversized, model=ModelRef("m" * 96, MODEL.digest, 32)).body() + bytes(300)
    return {
        "forged": good.raw[:64] + dataclasses.replace(good.record, sequence=9).body(),
        "another's signature": other.raw[:64] + good.raw[64:],
        "altered": good.raw[:-9] + bytes([good.raw[-9] ^ 1]) + good.raw[-8:],
        "cut": good.raw[:-1],
        "longer": good.raw + b"\0",
        "oversized": identity(1).sign(b"swarm-record-1\0" + body) + body,
        "expired": signed(1, life=-1.0).raw,
        "just expired": signed(1, life=0.0).raw,
        "too long-lived": signed(1, life=10_000.0).raw,
        "no bytes": [1, 2, 3],
        "nothing": b"",
    }


@pytest.mark.parametrize("kind", broken_records())
def test_what_is_no_valid_record_is_refused(kind):
    raw = broken_records()[kind]
    assert kind != "oversized" or len(raw) > MAX_RECORD_BYTES
    store = make_store()
    assert not store.put(LOW, raw, NOW)
    assert store.verifier.check(raw, NOW) is None
    assert store.size == 0


def test_expired_records_vanish_and_leave_nothing_behind():
    store = make_store()
    store.put(LOW, signed(1, life=60.0).raw, NOW)
    store.put(LOW, signed(2, life=30.0).raw, NOW)
    assert peers(store, now=NOW + 30) == {identity(1).peer_id}
    store.purge(NOW + 31)
    assert store.size == 1
    store.purge(NOW + 61)
    assert store.size == 0
    assert not store._buckets
    assert not store.verifier._verified
    store.purge(NOW + MAX_LIFETIME + 1)
    assert not store.verifier._highest


def test_an_older_record_that_lives_longer_is_not_replayed_after_the_newer_expired():
    store = make_store()
    older, newer = signed(1, sequence=1, life=60.0), signed(1, sequence=2, life=10.0)
    assert store.put(LOW, older.raw, NOW)
    assert store.put(LOW, newer.raw, NOW)
    store.purge(NOW + 20)
    assert not store.put(LOW, older.raw, NOW + 20)
    assert store.verifier.check(older.raw, NOW + 20) is None


def test_a_flood_from_one_network_displaces_only_itself():
    store = make_store()
    for number in range(4):
        assert store.put(LOW, signed(number).raw, NOW, network=bytes([number]))
    for number in range(100, 150):
        store.put(LOW, signed(number, span=LayerSpan(number % 16, 16)).raw, NOW, network=b"flood")
        check(store)
    assert peers(store) >= {identity(number).peer_id for number in range(4)}
    assert store.put(LOW, signed(5).raw, NOW, network=b"late but fair")


def test_a_flood_of_one_span_displaces_only_its_own():
    store = make_store()
    spans = [LayerSpan(start, 16) for start in range(4)]
    for number in range(60):
        store.put(LOW, signed(number, span=spans[0]).raw, NOW)
    for number, span in enumerate(spans):
        assert store.put(LOW, signed(200 + number, span=span).raw, NOW) or number == 0
    assert {held.signed.record.span for held in store.held(LOW, NOW)} == set(spans)


def test_in_a_full_key_who_has_left_goes_before_anybody_who_is_there():
    store, most = make_store(), SMALL.max_records_per_key
    for number in range(most):
        assert store.put(LOW, signed(number).raw, NOW)
    assert store.put(LOW, signed(3, sequence=2, state=PeerState.GONE).raw, NOW)  # in the place of what it said before
    assert not store.put(LOW, signed(50, state=PeerState.GONE).raw, NOW)
    assert store.put(LOW, signed(60).raw, NOW)
    assert peers(store) == {identity(number).peer_id for number in (*range(most), 60) if number != 3}
    assert not store.put(LOW, signed(3).raw, NOW), "what it said before it left does not come back"
    check(store)


def test_the_index_keeps_a_variety_of_models():
    store = make_store()
    models = [ModelRef(f"m{number}", bytes([number]) * 32, 32) for number in range(5)]
    for number in range(40):
        store.put(PUBLIC.index, signed(number, model=models[0]).raw, NOW)
    for number, model in enumerate(models[1:]):
        assert store.put(PUBLIC.index, signed(100 + number, model=model).raw, NOW)
    assert {held.signed.record.model for held in store.held(PUBLIC.index, NOW)} == set(models)


def test_replicas_of_a_full_key_keep_different_records_whatever_the_order():
    records = [signed(number) for number in range(40)]
    kept = []
    for secret in (b"one", b"two"):
        stores = make_store(secret=secret), make_store(secret=secret)
        for store, order in zip(stores, (records, records[::-1]), strict=True):
            for one in order:
                store.put(LOW, one.raw, NOW)
        assert peers(stores[0]) == peers(stores[1])
        kept.append(peers(stores[0]))
    assert len(kept[0] | kept[1]) > 8


def test_a_full_store_makes_room_at_the_cost_of_the_greediest_network():
    store = make_store(DirectoryConfig(max_records_per_key=8, max_records=20))
    for number in range(200):
        model = ModelRef("flood", number.to_bytes(32, "big"), 16)
        flood = signed(number, model=model, span=LayerSpan(0, 16))
        store.put(PUBLIC.keys_of(flood.record)[0], flood.raw, NOW, network=b"flood")
    assert store.size == 20
    for number in range(5):
        assert store.put(LOW, signed(1000 + number).raw, NOW, network=bytes([number]))
    assert len(peers(store)) == 5
    check(store)


def test_a_publisher_has_only_so_many_keys():
    store = make_store()
    long = signed(1, model=ModelRef("long", b"l" * 32, 160))
    assert [store.put(key, long.raw, NOW) for key in PUBLIC.keys_of(long.record)] == [True] * 4 + [False] * 7


def test_datagram_pages_give_everything_in_order():
    store = make_store(DirectoryConfig())
    records = [signed(number) for number in range(30)]
    for one in records:
        store.put(LOW, one.raw, NOW)
    after, got = LOWEST, []
    while True:
        raws, last = store.after(LOW, NOW, 1000, after)
        assert 0 < sum(map(len, raws)) <= 1000
        got += raws
        if not last:
            break
        assert after < last
        after = last
    assert got == sorted(
        (one.raw for one in records), key=lambda raw: node_id(SignedRecord.parse(raw, NOW).record.peer_id)
    )
    assert store.after(LOW, NOW, 1000, HIGHEST) == ([], b"")
    assert store.after(LOW, NOW, 10) == ([], b"")
    assert store.after(b"?" * 20, NOW, 1000) == ([], b"")


def test_bulk_pages_give_everything():
    store = make_store(DirectoryConfig())
    for number in range(MAX_PAGE_RECORDS + 10):
        store.put(LOW, signed(number).raw, NOW)
    first, more = store.page(LOW, 0, NOW)
    rest, done = store.page(LOW, len(first), NOW)
    assert (len(first), more, len(rest), done) == (MAX_PAGE_RECORDS, True, 10, False)
    assert store.page(LOW, -5, NOW)[0] == first
    assert store.page(LOW, 10_000, NOW) == ([], False)


def test_memories_are_bounded(monkeypatch):
    assert MAX_VERIFIED < 10_000 > MAX_SEQUENCES
    monkeypatch.setattr("swarm.discovery.store.MAX_VERIFIED", 5)
    monkeypatch.setattr("swarm.discovery.store.MAX_SEQUENCES", 5)
    verifier = Verifier()
    for number in range(20):
        assert verifier.check(signed(number).raw, NOW)
    assert len(verifier._verified) == len(verifier._highest) == 5


def test_what_the_package_would_do_with_a_storage_does_nothing():
    store = make_store()
    store.put(LOW, signed(1).raw, NOW)
    assert list(store) == list(store.iter_older_than(0)) == []
    assert store.get(LOW) is None
    with pytest.raises(TypeError):
        store[LOW] = b"unsigned"
    with pytest.raises(KeyError):
        store[LOW]


POOL = [
    signed(number, sequence=sequence, span=span, life=life)
    for number in range(12)
    for sequence, span, life in ((1, LayerSpan(0, 32), 60.0), (2, LayerSpan(0, 16), 20.0), (3, LayerSpan(16, 32), 40.0))
]


@given(st.integers(0, 2**32), st.integers(1, 120))
def test_whatever_is_put_the_store_stays_consistent_and_gives_only_the_newest(seed, count):
    rng = random.Random(seed)
    store, highest, now = make_store(), {}, NOW
    for _ in range(count):
        one, now = rng.choice(POOL), now + rng.choice((0.0, 0.0, 3.0))
        if not one.record.expired(now):
            highest[one.record.peer_id] = max(one.record.sequence, highest.get(one.record.peer_id, 0))
        store.put(rng.choice((LOW, HIGH, PUBLIC.index)), one.raw, now, network=rng.choice((b"a", b"b")))
        check(store)
    for key in (LOW, HIGH, PUBLIC.index):
        for held in store.held(key, now):
            record = held.signed.record
            assert key in PUBLIC.keys_of(record)
            assert not record.expired(now)
            assert record.sequence == highest[record.peer_id]
