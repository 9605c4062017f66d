"""Claims of moves: where workers are bound to be, who goes first, and which layers nobody would hold."""

from __future__ import annotations

from support.records import NOW, make_record

from swarm.records import Moving, PeerRecord, PeerState
from swarm.routing.balance import Claim
from swarm.routing.moves import CLAIM_SECONDS, TURN_SECONDS, claims, destination, goes_first, left_alone, unclaimed
from swarm.routing.placement import better_span, choose_span, fitting_spans
from swarm.span import LayerSpan

FIVE = fitting_spans([1] * 10, 5)


def moving(number: int, layers: str, to: str | None, since: float = NOW, **changes: object) -> PeerRecord:
    span = None if to is None else LayerSpan.parse(to)
    return make_record(number, layers, moving=Moving(since, span), **changes)


def claim(record: PeerRecord) -> Claim:
    return claims([record], NOW)[0][1]


def test_who_moves_counts_where_it_is_bound_to_be_and_who_leaves_nowhere() -> None:
    assert destination(make_record(1, "0-4"), NOW) == LayerSpan(0, 5)
    assert destination(moving(1, "0-4", "5-9"), NOW) == LayerSpan(5, 10)
    assert destination(moving(1, "0-4", None), NOW) is None
    assert choose_span([moving(1, "0-4", "5-9")], 10, FIVE, NOW) == LayerSpan(0, 5)
    assert choose_span([make_record(1, "5-9"), moving(2, "0-4", None)], 10, FIVE, NOW) == LayerSpan(0, 5)


def test_a_claim_that_is_too_old_or_whose_worker_is_gone_counts_no_more() -> None:
    late = NOW + CLAIM_SECONDS + 1
    old = moving(1, "0-4", "5-9", expires_at=late + 60)
    assert destination(old, late) == LayerSpan(0, 5)
    assert claims([old], late) == []
    assert claims([moving(1, "0-4", "5-9")], NOW + 61) == []
    assert claims([moving(1, "0-4", "5-9", state=PeerState.GONE), moving(2, "0-4", None)], NOW) == []


def test_a_worker_moves_to_a_hole_and_to_what_is_thin_and_stays_where_it_is_needed() -> None:
    mine = make_record(1, "0-4")
    assert better_span(mine, [make_record(2, "0-4")], FIVE, NOW) == LayerSpan(5, 10)
    assert better_span(mine, [make_record(2, "5-9")], FIVE, NOW) is None
    both = [make_record(2, "0-4"), make_record(3, "0-4"), make_record(4, "5-9")]
    assert better_span(mine, both, FIVE, NOW) == LayerSpan(5, 10)
    assert better_span(mine, [make_record(2, "0-4"), moving(3, "0-4", "5-9"), make_record(4, "5-9")], FIVE, NOW) is None
    assert better_span(mine, [make_record(2, "0-4"), moving(3, "5-9", None)], FIVE, NOW) == LayerSpan(5, 10)


def test_nobody_claims_what_another_has_claimed() -> None:
    one, other = moving(1, "0-4", "5-9"), moving(2, "4-6", "0-2")
    assert not unclaimed(claim(other), [one], NOW)
    assert unclaimed(claim(one), [one, make_record(3, "0-9")], NOW)
    assert unclaimed(claim(moving(1, "0-1", "2-3")), [moving(2, "5-6", "7-8")], NOW)


def test_of_those_who_claim_at_once_one_goes_and_all_agree_which() -> None:
    rivals = [moving(number, "0-4", "5-9") for number in range(1, 6)]
    assert sum(goes_first(claim(one), NOW, rivals, NOW) for one in rivals) == 1
    early = moving(9, "0-4", "5-9", since=NOW - TURN_SECONDS)
    assert goes_first(claim(early), NOW - TURN_SECONDS, [*rivals, early], NOW)
    assert not any(goes_first(claim(one), NOW, [*rivals, early], NOW) for one in rivals)


def test_layers_are_left_alone_unless_somebody_serves_them_who_stays() -> None:
    old, new = LayerSpan(0, 5), LayerSpan(3, 8)
    assert left_alone(old, new, [], NOW) == (0, 1, 2)
    assert left_alone(old, None, [make_record(2, "0-3")], NOW) == (4,)
    assert left_alone(old, new, [make_record(2, "0-9")], NOW) == ()
    assert left_alone(old, new, [moving(2, "0-9", "2-9")], NOW) == (0, 1)
    for away in (
        moving(2, "0-9", None),
        make_record(2, "0-9", state=PeerState.LOADING),
        make_record(2, "0-9", expires_at=NOW),
    ):
        assert left_alone(old, new, [away], NOW) == (0, 1, 2)
