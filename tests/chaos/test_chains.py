"""The simulation of chains in swarms at random."""

from __future__ import annotations

from random import Random

from chaos.chains import FACTOR, compare, draw, table
from swarm.routing.cost import Prices
from swarm.routing.shortest import shortest
from swarm.span import LayerSpan


def test_clients_find_chains_that_are_little_longer_than_the_shortest() -> None:
    found = compare(60, 3)
    assert all(ratio > 0.999 for each in found for ratio in each.ratios)
    assert all(each.most <= FACTOR for each in found)
    assert "60 swarms, seed 3" in table(found, 60, 3)


def test_near_workers_shorten_chains_that_are_direct() -> None:
    records, measured, between = draw(Random(2), 32)
    ways = Prices(measured), Prices(measured, True, between)
    around, direct = (shortest(records, LayerSpan(0, 32), prices)[1] for prices in ways)
    assert direct < around
