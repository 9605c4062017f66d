"""Rows a second that a worker is asked."""

from __future__ import annotations

import pytest

from swarm.worker.demand import Demand


def test_a_rate_is_reached_and_fades() -> None:
    clock = [0.0]
    demand = Demand(lambda: clock[0])
    assert demand.rate(0) == 0.0
    rows = 0
    for _ in range(30):
        clock[0] += 20.0
        rows += 200
        rate = demand.rate(rows)
    assert rate == pytest.approx(10.0, rel=0.001)
    assert demand.rate(rows + 5) == rate  # no time has passed
    clock[0] += 600.0
    assert demand.rate(rows) < 0.01
