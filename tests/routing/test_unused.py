"""Every worker of a model is in the chain, or is told in one line why it is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.records import MODEL, NOW, make_record, peer

from swarm.errors import NoChain
from swarm.identity import PeerId
from swarm.records import ModelRef, PeerRecord, PeerState
from swarm.routing.cost import Measurement
from swarm.routing.finder import find_chain
from swarm.routing.unused import Known, Uses, uses
from swarm.span import LayerSpan

OTHER = ModelRef(MODEL.name, b"\xff" * 32, MODEL.layer_count)
NEAR = {peer(number): Measurement(0.01) for number in range(1, 10)}


def told(
    records: list[PeerRecord],
    known: dict[PeerId, Known] | None = None,
    measured: dict[PeerId, Measurement] | None = None,
    **options: object,
) -> dict[int, str]:
    """By the number of the peer, "used 0-9" or why not."""
    found = uses(records, MODEL, known or {}, NEAR if measured is None else measured, NOW, **options)  # type: ignore[arg-type]
    return {int.from_bytes(use.record.peer_id[:2], "big"): use.why or f"used {use.layers}" for use in found.workers}


def no_way_on(layers: str) -> str:
    return f"no way on: {layers} served by nobody that can be used"


@pytest.mark.parametrize(
    ("changes", "known", "text"),
    [
        (
            {"model": OTHER},
            Known(),
            "of another model by this name: its files have digest ffffffffffff, not 000102030405",
        ),
        ({"expires_at": NOW - 3}, Known(), "silent: its record expired 3 s ago"),
        ({"state": PeerState.DRAINING}, Known(), "draining: it takes no new sessions and will leave"),
        ({"state": PeerState.LOADING}, Known(), "loading its layers still"),
        ({"state": PeerState.GONE}, Known(), "gone: it said that it left"),
        ({}, Known(unreachable="TCP 192.0.2.7:7700 refused"), "unreachable: TCP 192.0.2.7:7700 refused"),
        ({}, Known(version="it speaks 3"), "of another version: it speaks 3"),
        ({}, Known(banned="until tomorrow"), "banned: until tomorrow"),
        ({}, Known(avoided="for 12 s more"), "avoided: for 12 s more"),
        ({}, Known(full="no room for a token"), "full: no room for a token"),
        ({"precision": "int8"}, Known(), "of another precision: it computes in int8, the chain in bf16"),
        (
            {"precision": "int8", "span": LayerSpan(0, 4)},
            Known(),
            "of another precision: it computes in int8, the chain in bf16; " + no_way_on("layers 4-9 in int8 are"),
        ),
        ({"numerics": "odd"}, Known(), "of another numerics class: odd, the chain is of bf16/cpu/x86"),
        (
            {"tokens_per_second": 5.0},
            Known(),
            "slower: 21.00 ms a token and layer from layer 0 on, peer 00010000 11.00 ms (round trip 10.0 ms against 10.0 ms)",
        ),
        ({}, Known(), "no quicker than peer 00010000, which computes layers 0-9"),
        (
            {"span": LayerSpan(2, 6)},
            Known(),
            "not needed: peer 00010000 computes layers 0-9 in one go, and its own begin among them",
        ),
    ],
)
def test_beside_a_worker_that_serves_everything(changes: dict[str, object], known: Known, text: str) -> None:
    assert told([make_record(1, "0-9"), make_record(2, "0-9", **changes)], {peer(2): known}) == {1: "used 0-9", 2: text}


def test_a_round_trip_that_nobody_could_measure_is_told() -> None:
    said = told([make_record(1, "0-9"), make_record(2, "0-9")], measured={peer(1): Measurement(0.002)})
    assert said[2].endswith("(round trip unmeasured, taken for 100 ms against 2.0 ms)")


def test_without_a_chain_each_is_told_which_layers_are_missing_for_it() -> None:
    said = told([make_record(1, "0-3"), make_record(2, "6-9"), make_record(3, "0-8", precision="int8")])
    assert said == {
        1: no_way_on("layers 4-5 in bf16 are"),
        2: no_way_on("layers 4-5 in bf16 are"),
        3: no_way_on("layer 9 in int8 is"),
    }
    assert "has to be exact" in told([make_record(1, "0-4"), make_record(2, "5-9", numerics="odd")], exact=True)[1]


def test_what_was_asked_for_counts() -> None:
    records = [make_record(1, "0-9"), make_record(2, "0-9", precision="int8")]
    assert told(records, precision="int8") == {
        1: "of another precision: it computes in bf16, int8 was asked for",
        2: "used 0-9",
    }
    assert "they stand together" in told([make_record(1, "0-4")], bonds=[LayerSpan(3, 6)])[1]


workers = st.builds(
    lambda number, start, length, precision, state, numerics, speed: make_record(
        number,
        f"{start}-{min(9, start + length)}",
        precision=precision,
        state=state,
        numerics=numerics,
        tokens_per_second=speed,
    ),
    st.integers(1, 12),
    st.integers(0, 9),
    st.integers(0, 9),
    st.sampled_from(["bf16", "int8"]),
    st.sampled_from([PeerState.SERVING, PeerState.SERVING, PeerState.DRAINING]),
    st.sampled_from(["portable-1:bf16", "odd"]),
    st.sampled_from([None, 5.0, 100.0]),
)


@given(st.lists(workers, max_size=10, unique_by=lambda record: record.peer_id), st.sets(st.integers(1, 12)))
def test_the_chain_is_that_of_a_new_client_and_everybody_else_is_told_why(
    records: list[PeerRecord], silent: set[int]
) -> None:
    known = {peer(number): Known(unreachable="no answer") for number in silent}
    found: Uses = uses(records, MODEL, known, {}, NOW)
    usable = [record for record in records if record.peer_id not in known]
    if found.chain is None:
        with pytest.raises(NoChain) as hole:
            find_chain(usable, MODEL, LayerSpan(0, 10), {}, NOW)
        assert found.missing == hole.value.missing
        assert all(use.why for use in found.workers)
    else:
        assert found.chain == find_chain(usable, MODEL, LayerSpan(0, 10), {}, NOW)
        assert {hop.peer_id for hop in found.chain.hops} == {use.record.peer_id for use in found.workers if not use.why}
    assert len(found.workers) == len(records)
