"""What a span is worth, when a worker moves, and who goes first."""

from __future__ import annotations

import pytest

from swarm.routing.balance import Claim, Offer, best_possible, best_span, drawn, move, offered, slowest
from swarm.routing.placement import fitting_spans
from swarm.span import LayerSpan

EVEN = [1.0] * 10


def offer(layers: int, speed: float, link: float = float("inf")) -> Offer:
    return Offer(tuple(fitting_spans([1] * 10, layers)), speed, link)


def rates(*holders: tuple[str, float]) -> list[float]:
    return offered(((LayerSpan.parse(span), rate) for span, rate in holders), 10)


def test_a_hole_goes_before_everything() -> None:
    assert str(best_span(offer(3, 30), rates(("0-5", 1), ("7-9", 100)), EVEN)[0]) in ("4-6", "5-7")
    assert move(offer(3, 30), LayerSpan(0, 3), rates(("0-2", 10), ("0-8", 0.1)), EVEN) == LayerSpan(7, 10)


def test_the_slowest_part_is_lifted_not_the_one_with_fewest_workers() -> None:
    many_slow, one_fast = [("0-4", 1.0)] * 5, ("5-9", 50.0)
    assert str(best_span(offer(5, 50), rates(*many_slow, one_fast), EVEN)[0]) == "0-4"


def test_demand_weighs() -> None:
    asked = [100.0] * 5 + [1000.0] * 5
    assert str(best_span(offer(5, 50), rates(("0-9", 10)), asked)[0]) == "5-9"
    assert slowest(rates(("0-9", 10)), asked) < 10


def test_a_link_bounds_what_is_offered() -> None:
    assert offer(5, 50, link=4).rate(LayerSpan(0, 5)) == 4
    assert offer(5, 50, link=40).rate(LayerSpan(0, 5)) == 10


@pytest.mark.parametrize(("there", "goes"), [(10.0, False), (9.7, False), (5.0, True)])
def test_a_move_must_gain_a_quarter(there: float, goes: bool) -> None:
    """Two workers in one half; the other half has as much as stays, or less."""
    moved = move(offer(5, 5.0), LayerSpan(0, 5), rates(("0-4", 10), ("0-4", 1), ("5-9", there)), EVEN)
    assert (moved == LayerSpan(5, 10)) is goes


def test_who_alone_holds_a_layer_keeps_it() -> None:
    alone = rates(("0-4", 10), ("5-9", 1), ("1-4", 90))
    moved = move(offer(5, 50), LayerSpan(0, 5), alone, EVEN)
    assert moved is None or 0 in moved


def test_one_goes_of_those_whose_layers_touch_and_turns_change_who() -> None:
    claims = [Claim(bytes([each] * 32), LayerSpan(0, 5), LayerSpan(each, each + 2)) for each in range(5, 9)]
    apart = Claim(bytes(32), LayerSpan(20, 25), LayerSpan(30, 35))
    firsts = set()
    for turn in range(40):
        going = [claim for claim in claims if drawn(claim, [*claims, apart], turn)]
        assert len(going) == 1
        assert drawn(apart, [*claims, apart], turn)
        firsts.add(going[0].peer_id)
    assert len(firsts) == 4


def test_the_best_possible() -> None:
    assert best_possible([offer(10, 100)], 10) == pytest.approx(10)
    assert best_possible([offer(5, 50), offer(5, 50)], 10) == pytest.approx(10)
    # half of the model at most, however fast: the other half's worker decides
    assert best_possible([offer(5, 5000), offer(5, 50)], 10) == pytest.approx(10)
    assert best_possible([offer(10, 100, link=3)], 10) == pytest.approx(3)
