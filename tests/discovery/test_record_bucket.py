from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from support.announcements import identity, record

from swarm.discovery.record_bucket import Held, RecordBucket
from swarm.records import ModelRef, SignedRecord
from swarm.span import LayerSpan

MODELS = [ModelRef(f"m{number}", bytes([number]) * 32, 32) for number in range(3)]
RECORDS = {
    (number, model, start): SignedRecord(
        record(identity(number), model=MODELS[model], span=LayerSpan(start, start + 16)), b""
    )
    for number in range(16)
    for model in range(3)
    for start in range(4)
}


def held(number, network=b"a", model=0, start=0, rank=None):
    rank = bytes([number * 37 % 256]) if rank is None else rank
    return Held(RECORDS[number, model, start], bytes([number]), network, rank)


def victims(records):
    """What the rule says: of the largest groups by network, of those by model, of those by span; the highest rank is last."""
    left = list(records)
    for trait in (
        lambda one: one.network,
        lambda one: one.signed.record.model.digest,
        lambda one: one.signed.record.span,
    ):
        sizes = Counter(map(trait, left))
        left = [one for one in left if sizes[trait(one)] == max(sizes.values())]
    return sorted(left, key=lambda one: one.rank)


changes = st.lists(
    st.tuples(
        st.integers(0, 15),
        st.sampled_from((b"a", b"b", b"c", b"d")),
        st.integers(0, 2),
        st.integers(0, 3),
        st.booleans(),
    ),
    max_size=60,
)


@given(changes)
def test_whatever_comes_and_goes_the_victim_is_the_rule_s(steps):
    bucket, records = RecordBucket(), {}
    for number, network, model, start, stays in steps:
        peer = identity(number).peer_id
        if peer in records:
            assert bucket.pop(peer) is records.pop(peer)
        if stays:
            records[peer] = held(number, network, model, start)
            bucket.add(records[peer])
        assert list(bucket) == list(records.values())
        if records:
            assert bucket.victim() is victims(records.values())[-1]


@given(changes)
def test_nothing_is_left_of_what_is_gone(steps):
    bucket = RecordBucket()
    for number, network, model, start, _ in steps:
        if bucket.get(identity(number).peer_id) is None:
            bucket.add(held(number, network, model, start))
    while len(bucket):
        bucket.pop(bucket.victim().signed.record.peer_id)
    assert not bucket._ranked
    assert not bucket._networks
    assert not bucket._levels


def test_equal_ranks_are_not_mixed_up():
    bucket = RecordBucket()
    both = held(1, rank=b"r"), held(2, rank=b"r")
    for one in both:
        bucket.add(one)
    for one in both:
        assert bucket.pop(one.signed.record.peer_id) is one
