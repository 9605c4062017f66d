"""Workers of very different sizes that place and move themselves."""

from __future__ import annotations

import pytest

from chaos.placement import place


@pytest.mark.parametrize("start", ["arrivals", "halves"])
def test_they_end_near_the_best_possible_and_stay(start: str) -> None:
    placed = place(start, 100, seed=3)
    assert placed.holds, placed
    assert placed.restless < 0.5
