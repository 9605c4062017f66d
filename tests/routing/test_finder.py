"""Chains: which are found, which are refused, and with what words."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.records import MODEL, NOW, make_record, peer

from swarm.errors import NoChain, UsageFault
from swarm.identity import PeerId
from swarm.records import ModelRef, PeerRecord, PeerState
from swarm.routing.chain import Chain
from swarm.routing.cost import Measurement
from swarm.routing.finder import coverage, find_chain, fixed_chain, match_peer
from swarm.routing.limits import Limits
from swarm.span import LayerSpan, held_in_part

WHOLE = LayerSpan(0, 10)


def near(*numbers: int, seconds: float = 0.01) -> dict[PeerId, Measurement]:
    return {peer(number): Measurement(seconds) for number in numbers}


def find(
    records: list[PeerRecord],
    span: LayerSpan = WHOLE,
    measured: dict[PeerId, Measurement] | None = None,
    **options: object,
) -> Chain:
    return find_chain(records, MODEL, span, measured or {}, NOW, **options)  # type: ignore[arg-type]


def shape(chain: Chain) -> list[tuple[int, str]]:
    return [(int.from_bytes(hop.peer_id[:2], "big"), str(hop.span)) for hop in chain.hops]


class TestLimits:
    def test_only_workers_of_a_region_are_used(self) -> None:
        records = [make_record(1, "0-9"), make_record(2, "0-9", region="eu"), make_record(3, "0-9", region="us")]
        measured = near(1, 3) | near(2, seconds=0.2)
        assert shape(find(records, measured=measured, limits=Limits(frozenset({"eu"})))) == [(2, "0-9")]
        assert shape(find(records, measured=measured, limits=Limits(frozenset({"eu", "us"})))) == [(3, "0-9")]
        with pytest.raises(NoChain, match=r"1 outside asia \(--region\)"):
            find(records[1:2], measured=measured, limits=Limits(frozenset({"asia"})))

    def test_only_workers_so_near_are_used(self) -> None:
        far, closer = make_record(1, "0-9", tokens_per_second=1000.0), make_record(2, "0-9", tokens_per_second=1.0)
        measured = near(1, seconds=0.05) | near(2, seconds=0.04)
        assert shape(find([far, closer], measured=measured)) == [(1, "0-9")]
        assert shape(find([far, closer], measured=measured, limits=Limits(latency=0.04))) == [(2, "0-9")]
        with pytest.raises(NoChain, match=r"1 further away than 40 ms \(--max-latency\)"):
            find([far], measured=measured, limits=Limits(latency=0.04))
        with pytest.raises(NoChain, match="1 not measured, so perhaps further away than 40 ms"):
            find([far], limits=Limits(latency=0.04))
        assert shape(find([far], limits=Limits(latency=0.1))) == [(1, "0-9")]


class TestGreedy:
    def test_the_least_time_per_layer_wins(self) -> None:
        records = [make_record(1, "0-9"), make_record(2, "0-9"), make_record(3, "0-9")]
        assert shape(find(records, measured=near(1, 3, seconds=0.2) | near(2))) == [(2, "0-9")]

    def test_a_long_offer_beats_short_ones_that_are_nearer(self) -> None:
        short = [make_record(number, str(number - 1), tokens_per_second=100.0) for number in range(1, 11)]
        measured = near(*range(1, 11), seconds=0.02) | near(11, seconds=0.05)
        assert shape(find([*short, make_record(11, "0-9")], measured=measured)) == [(11, "0-9")]

    def test_a_span_is_entered_in_its_middle_and_left_early(self) -> None:
        records = [make_record(1, "0-5"), make_record(2, "3-9")]
        assert shape(find(records)) == [(1, "0-5"), (2, "6-9")]
        assert shape(find(records, LayerSpan(4, 8))) == [(2, "4-7")]

    def test_load_counts(self) -> None:
        records = [make_record(1, "0-9"), make_record(2, "0-9")]
        busy = {peer(1): Measurement(0.01, queue_rows=64), peer(2): Measurement(0.05)}
        assert shape(find(records, measured=busy)) == [(2, "0-9")]

    def test_speed_counts(self) -> None:
        records = [make_record(1, "0-9", tokens_per_second=5.0), make_record(2, "0-9", tokens_per_second=50.0)]
        assert shape(find(records)) == [(2, "0-9")]

    def test_ties_fall_to_the_lower_peer_id(self) -> None:
        records = [make_record(number, "0-9") for number in (3, 1, 2)]
        assert shape(find(records)) == shape(find(records[::-1])) == [(1, "0-9")]


class TestWhoIsUsed:
    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"state": PeerState.DRAINING}, "1 shutting down"),
            ({"expires_at": NOW}, "1 no longer announced"),
            ({"model": replace(MODEL, digest=bytes(32))}, "1 of another model"),
            ({"model": replace(MODEL, layer_count=11)}, "1 of another model"),
            ({"precision": "fp32"}, "1 not bf16"),
        ],
    )
    def test_who_may_not_be_used_is_said(self, changes: dict[str, object], reason: str) -> None:
        records = [make_record(1, "0-4"), make_record(2, "5-9", **changes)]
        with pytest.raises(NoChain, match=re.escape(f"layers 5-9 of {MODEL} are served by nobody")) as caught:
            find(records, precision="bf16")
        assert reason in str(caught.value)
        assert caught.value.missing == (LayerSpan(5, 10),)

    def test_avoided_peers_are_never_used(self) -> None:
        with pytest.raises(NoChain, match="1 avoided after a failure"):
            find([make_record(1, "0-9")], avoid=frozenset({peer(1)}))

    def test_only_the_allowed_are_used(self) -> None:
        records = [make_record(1, "0-9"), make_record(2, "0-9")]
        assert shape(find(records, allowed=[peer(2)])) == [(2, "0-9")]
        with pytest.raises(NoChain, match="2 not among the peers asked for"):
            find(records, allowed=[])

    def test_the_latest_announcement_counts(self) -> None:
        records = [make_record(1, "0-9", sequence=2, state=PeerState.DRAINING), make_record(1, "0-9")]
        for order in (records, records[::-1]):
            with pytest.raises(NoChain, match="shutting down"):
                find(order)

    def test_a_peer_that_changed_its_model_no_longer_serves_the_old_one(self) -> None:
        other = make_record(1, "0-9", sequence=2, model=ModelRef("other", bytes(32), 10))
        with pytest.raises(NoChain):
            find([make_record(1, "0-9"), other])

    def test_an_empty_swarm_misses_every_layer(self) -> None:
        with pytest.raises(NoChain, match=r"layers 0-9 of .* are served by nobody that can be used\. Start ") as caught:
            find([])
        assert caught.value.missing == (WHOLE,)

    def test_one_missing_layer_in_the_middle(self) -> None:
        with pytest.raises(NoChain, match=r"layer 5 of .* is served by nobody"):
            find([make_record(1, "0-4"), make_record(2, "6-9")])

    @pytest.mark.parametrize(
        ("held", "advice"),
        [
            (["0-4"], "`swarm worker --model {} --layers 5-9`"),
            (["0-1", "3-7"], "`swarm worker --model {0} --layers 2` and `swarm worker --model {0} --layers 8-9`"),
            (["1", "3", "5", "7"], "--layers 4` and so on"),
        ],
    )
    def test_what_helps_is_said(self, held: list[str], advice: str) -> None:
        with pytest.raises(NoChain) as caught:
            find([make_record(index, span) for index, span in enumerate(held, 1)])
        assert f"{advice.format(MODEL.name)}, or wait longer with --timeout" in str(caught.value)


class TestClasses:
    def test_one_class_is_preferred_to_a_faster_mixture(self) -> None:
        records = [
            make_record(1, "0-9", tokens_per_second=1.0),
            make_record(2, "0-4", numerics="b", tokens_per_second=99.0),
            make_record(3, "5-9", numerics="c", tokens_per_second=99.0),
        ]
        assert shape(find(records)) == [(1, "0-9")]

    def test_of_two_classes_the_faster(self) -> None:
        records = [make_record(1, "0-9"), make_record(2, "0-9", numerics="b", tokens_per_second=99.0)]
        assert shape(find(records)) == [(2, "0-9")]
        assert shape(find(records, prefer_numerics="bf16/cpu/x86")) == [(1, "0-9")]

    def test_the_preferred_class_gives_way_where_it_does_not_cover(self) -> None:
        records = [make_record(1, "0-8", numerics="b"), make_record(2, "0-9", numerics="c")]
        assert shape(find(records, prefer_numerics="b")) == [(2, "0-9")]

    def test_mixed_where_no_class_covers(self) -> None:
        records = [make_record(1, "0-4"), make_record(2, "5-9", numerics="b")]
        chain = find(records)
        assert shape(chain) == [(1, "0-4"), (2, "5-9")]
        assert chain.numerics is None

    def test_precisions_are_never_mixed(self) -> None:
        records = [make_record(1, "0-6"), make_record(2, "4-9", precision="fp32")]
        with pytest.raises(NoChain) as caught:
            find(records)
        assert caught.value.missing == (LayerSpan(7, 10),), "of the precision that lacks least"
        assert "1 of a precision that does not cover the rest" in str(caught.value)

    def test_the_precision_that_covers_is_taken(self) -> None:
        records = [make_record(1, "0-6"), make_record(2, "0-9", precision="fp32")]
        assert shape(find(records)) == [(2, "0-9")]


class TestByHand:
    def test_each_peer_goes_on_where_the_one_before_ended(self) -> None:
        records = [make_record(1, "0-4"), make_record(2, "3-9"), make_record(3, "0-9")]
        assert shape(fixed_chain(records, MODEL, [peer(1), peer(2)])) == [(1, "0-4"), (2, "5-9")]

    @pytest.mark.parametrize(
        ("peers", "words"),
        [
            ([1], "the chain ends before layers 5-9"),
            ([], "the chain ends before layers 0-9"),
            ([2, 1], "peer 00020000 holds layers 3-9, but layers 0-2 before them are held by no peer"),
            ([1, 1], "peer 00010000 holds layers 0-4, but the peers before it already reach layer 4"),
            ([3, 2], "peer 00020000 holds layers 3-9, but the chain is complete before it"),
            ([1, 9], "peer 00090000 of the chain announces no layers"),
            ([1, 4], "peer 00040000 computes in fp32, but 00010000 in bf16"),
            ([5], "peer 00050000 cannot be in the chain: its worker is shutting down"),
            ([6], "peer 00060000 cannot be in the chain: its worker is no longer announced"),
            ([7], "peer 00070000 cannot be in the chain: its worker is of another model"),
        ],
    )
    def test_what_does_not_fit_is_named(self, peers: list[int], words: str) -> None:
        records = [
            make_record(1, "0-4"),
            make_record(2, "3-9"),
            make_record(3, "0-9"),
            make_record(4, "5-9", precision="fp32"),
            make_record(5, "0-9", state=PeerState.DRAINING),
            make_record(6, "0-9", expires_at=NOW - 1),
            make_record(7, "0-9", model=replace(MODEL, digest=bytes(32))),
        ]
        with pytest.raises(UsageFault, match=re.escape(words)):
            fixed_chain(records, MODEL, [peer(number) for number in peers], NOW)


class TestMatching:
    RECORDS = (make_record(0x3F9A, "0-4"), make_record(0x3F00, "0-4"), make_record(1, "0-4"))

    def test_a_beginning_is_enough(self) -> None:
        assert match_peer("3f9", self.RECORDS) == peer(0x3F9A)
        assert match_peer(" 3F9A ", self.RECORDS) == peer(0x3F9A)
        assert match_peer(peer(1).hex(), self.RECORDS) == peer(1)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("3f", "several peer ids begin with 3f: 3f00000000000000, 3f9a000000000000; write more"),
            ("77", "no worker's peer id begins with 77; known: 00010000, 3f000000, 3f9a0000"),
            ("xyz", "'xyz' is no peer id"),
            ("", "'' is no peer id"),
            ("a" * 65, "is no peer id"),
        ],
    )
    def test_anything_else_is_refused(self, text: str, words: str) -> None:
        with pytest.raises(UsageFault, match=re.escape(words)):
            match_peer(text, self.RECORDS)

    def test_a_long_list_is_cut(self) -> None:
        with pytest.raises(UsageFault, match=r"known: (\w{8}, ){7}\w{8} and 12 more"):
            match_peer("ff", [make_record(number, "0") for number in range(20)])


def test_coverage_counts_serving_workers() -> None:
    records = [
        make_record(1, "0-4"),
        make_record(2, "3-7"),
        make_record(3, "0-9", state=PeerState.DRAINING),
        make_record(4, "0-9", expires_at=NOW - 1),
    ]
    assert coverage(records, 10, NOW) == [1, 1, 1, 2, 2, 1, 1, 1, 0, 0]
    assert coverage(records, 10) == [2, 2, 2, 3, 3, 2, 2, 2, 1, 1]
    assert coverage(records, 4, NOW) == [1, 1, 1, 2]


class TestBonds:
    def test_who_announces_a_part_is_not_used(self) -> None:
        together = (LayerSpan(4, 8),)
        whole = [make_record(1, "0-3"), make_record(2, "4-9")]
        assert shape(find([*whole, make_record(3, "0-5"), make_record(4, "6-9")], bonds=together)) == (
            [(1, "0-3"), (2, "4-9")]
        )
        with pytest.raises(NoChain, match=r"layers 4-9 .* 2 of no use without all of layers 4-7"):
            find([whole[0], make_record(3, "0-5"), make_record(4, "6-9")], bonds=together)
        with pytest.raises(UsageFault, match="its worker is of no use without all of layers 4-7"):
            fixed_chain([make_record(3, "0-5"), *whole], MODEL, [peer(3), peer(2)], bonds=together)

    @given(st.lists(st.tuples(st.sampled_from((0, 1, 2, 3, 7, 8)), st.sampled_from((1, 2, 3, 7, 8, 10))), min_size=1))
    def test_no_hop_cuts_one_if_no_announced_span_does(self, ends: list[tuple[int, int]]) -> None:
        together = (LayerSpan(3, 7), LayerSpan(8, 10))
        spans = [LayerSpan(start, stop) for start, stop in ends if start < stop]
        records = [make_record(number, str(span)) for number, span in enumerate([*spans, WHOLE], 1)]
        for hop in find(records, measured=near(*range(1, len(records) + 1)), bonds=together).hops:
            assert held_in_part(hop.span, together) is None


class TestExact:
    CLASSES = ("bf16/cpu/avx2", "bf16/cpu/avx512")

    def mixed(self) -> list[PeerRecord]:
        return [
            make_record(1, "0-5", numerics=self.CLASSES[0]),
            make_record(2, "4-9", numerics=self.CLASSES[1]),
            make_record(3, "0-3", numerics="portable-1:bf16"),
        ]

    def test_classes_are_not_mixed_and_who_serves_what_is_told(self) -> None:
        assert find(self.mixed()).numerics is None
        with pytest.raises(NoChain) as error:
            find(self.mixed(), exact=True)
        assert error.value.missing == (LayerSpan(6, 10),)
        for words in (
            "no numerics class serves all of layers 0-9",
            f"{self.CLASSES[0]} has layers 0-5 ({peer(1).hex()[:8]})",
            f"{self.CLASSES[1]} has layers 4-9 ({peer(2).hex()[:8]})",
            f"portable-1:bf16 has layers 0-3 ({peer(3).hex()[:8]})",
        ):
            assert words in str(error.value)

    def test_of_whole_classes_the_portable_one_is_taken(self) -> None:
        whole = [make_record(4, "0-9", numerics=self.CLASSES[0]), make_record(5, "3-9", numerics="portable-1:bf16")]
        assert shape(find([*self.mixed(), *whole], exact=True)) == [(3, "0-3"), (5, "4-9")]
        assert shape(find([*self.mixed(), whole[0]], exact=True)) == [(4, "0-9")]

    def test_a_class_that_is_named_is_the_only_one(self) -> None:
        whole = make_record(4, "0-9", numerics="portable-1:bf16")
        asked = {"exact": True, "prefer_numerics": self.CLASSES[0]}
        with pytest.raises(NoChain, match=f"nobody in the numerics class {self.CLASSES[0]} serves all") as error:
            find([*self.mixed(), whole], **asked)
        assert error.value.missing == (LayerSpan(6, 10),)
        with pytest.raises(NoChain) as error:
            find([whole], **asked)
        assert error.value.missing == (WHOLE,)
        assert shape(find([whole], exact=True, prefer_numerics="portable-1:bf16")) == [(4, "0-9")]

    def test_layers_that_nobody_serves_are_told_as_ever(self) -> None:
        with pytest.raises(NoChain, match=r"layers 6-9 of .* served by nobody"):
            find(self.mixed()[:1], exact=True)
