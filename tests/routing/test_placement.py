"""Where a new worker's layers go."""

from __future__ import annotations

import pytest
from support.records import MODEL, NOW, make_record

from swarm.errors import UsageFault
from swarm.records import PeerRecord, PeerState
from swarm.routing.finder import coverage
from swarm.routing.placement import ahead_of, at_most, choose_span, fitting_spans, needless
from swarm.span import LayerSpan


def choose(records: list[PeerRecord], capacity: int, bonds: tuple[LayerSpan, ...] = ()) -> str:
    return str(choose_span(records, MODEL.layer_count, fitting_spans([1] * MODEL.layer_count, capacity, bonds), NOW))


def test_all_layers_if_they_fit() -> None:
    assert choose([make_record(1, "0-9")], 10) == "0-9"
    assert choose([], 99) == "0-9"


def test_holes_are_filled_first() -> None:
    assert choose([], 4) == "0-3"
    assert choose([make_record(1, "0-3")], 4) == "4-7"
    assert choose([make_record(1, "0-3"), make_record(2, "4-7")], 4) == "6-9"
    assert choose([make_record(1, "0-4"), make_record(2, "6-9")], 1) == "5"


def test_then_the_thinnest_part() -> None:
    records = [make_record(1, "0-9"), make_record(2, "0-5"), make_record(3, "8-9")]
    assert choose(records, 2) == "6-7"
    assert choose(records, 4) == "4-7"


def test_those_who_leave_do_not_count() -> None:
    gone = [make_record(1, "0-4", state=PeerState.DRAINING), make_record(2, "0-4", expires_at=NOW - 1)]
    assert choose([*gone, make_record(3, "5-9")], 5) == "0-4"


def test_nothing_fits() -> None:
    with pytest.raises(UsageFault, match="--max-memory"):
        choose([], 0)


def test_arrivals_one_after_another_leave_no_hole_and_spread_evenly() -> None:
    records: list[PeerRecord] = []
    for number, capacity in enumerate([3, 4, 2, 5, 3, 1, 4, 3, 2, 3]):
        records.append(make_record(number, choose(records, capacity)))
        if number == 3:
            assert min(coverage(records, 10)) == 1
    replicas = coverage(records, 10)
    assert sum(replicas) >= 29  # of 30 that fit: fewer layers are done sooner, where they are the thinnest
    assert min(replicas) >= 2


def test_layers_of_slow_workers_are_thinner_than_those_of_as_many_fast_ones() -> None:
    records = [make_record(1, "0-4", tokens_per_second=1.0), make_record(2, "0-4", tokens_per_second=1.0)]
    assert choose([*records, make_record(3, "5-9", tokens_per_second=50.0)], 5) == "0-4"


def test_who_measured_nothing_counts_as_a_typical_worker() -> None:
    unknown = make_record(1, "0-4", tokens_per_second=None, state=PeerState.LOADING)
    assert choose([unknown, make_record(2, "5-9", tokens_per_second=3.0), make_record(3, "0-4")], 5) == "5-9"


@pytest.mark.parametrize("claimed", [1e12, 1e308])
def test_a_claim_of_any_speed_keeps_nobody_away_from_a_hole(claimed: float) -> None:
    assert choose([make_record(1, "0-4", tokens_per_second=claimed), make_record(2, "0-7")], 2) == "8-9"


def test_of_two_halves_the_one_that_is_asked_more_is_thinner() -> None:
    records = [make_record(1, "0-4", asked=1.0), make_record(2, "5-9", asked=3.0)]
    assert choose(records, 5) == "5-9"
    silent = [make_record(1, "0-4"), make_record(2, "5-9", asked=3.0)]
    assert choose(silent, 5) == "0-4"


def test_no_more_layers_than_the_worker_may_take() -> None:
    spans = fitting_spans([1] * 10, 6)
    assert {len(span) for span in at_most(spans, 2)} == {1, 2}
    assert not any(span.start in (3, 4) for span in at_most(spans, 2, (LayerSpan(4, 8),)))


def test_what_fits_from_each_layer_on() -> None:
    assert [str(each) for each in fitting_spans([1, 3, 1, 1], 4)] == ["0-1", "1-2", "2-3", "3"]
    assert [str(each) for each in fitting_spans([1, 5, 1, 1], 4)] == ["0", "2-3", "3"]
    assert fitting_spans([5, 5], 4) == []


def test_layers_that_only_stand_together_are_chosen_together_or_not_at_all() -> None:
    together = (LayerSpan(4, 8),)
    assert [str(each) for each in fitting_spans([1] * 10, 5, together)] == (
        ["0-3", "1-3", "2-3", "3-7", "4-8", "8-9", "9"]
    )
    assert choose([], 5, together) == "3-7"
    assert choose([], 3, together) == "0-2"
    assert choose([make_record(1, "0-3")], 3, together) == "8-9"
    assert choose([make_record(1, "0-3"), make_record(2, "8-9")], 4, together) == "4-7"
    with pytest.raises(UsageFault, match="stand alone"):
        choose([], 3, (LayerSpan(0, 10),))


def test_those_who_are_loading_count() -> None:
    assert choose([make_record(1, "0-4", state=PeerState.LOADING)], 5) == "5-9"


def test_of_two_who_choose_at_once_one_gives_way() -> None:
    one, other = (make_record(number, "0-4", state=PeerState.LOADING) for number in (1, 2))
    assert ahead_of(one, [one, other]) == []
    assert ahead_of(other, [one, other]) == [one]
    serving = make_record(9, "0-4")
    assert ahead_of(one, [serving, other]) == [serving]


def test_layers_are_needless_where_others_are_missing() -> None:
    assert needless(LayerSpan(0, 5), [make_record(1, "0-4")], MODEL.layer_count, NOW)
    assert not needless(LayerSpan(0, 6), [make_record(1, "0-4")], MODEL.layer_count, NOW)
    assert not needless(LayerSpan(0, 5), [make_record(1, "0-9")], MODEL.layer_count, NOW)
