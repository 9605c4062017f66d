"""Predicted times: what is measured counts, what is claimed is bounded, what is unknown is assumed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.records import make_record

from swarm.routing.cost import ASSUMED_LAYER_SECONDS, ASSUMED_ROUND_TRIP, UNMEASURED, Measurement, predicted_seconds
from swarm.span import LayerSpan

RECORD = make_record(1, "0-9", tokens_per_second=10.0)  # a tenth of a second for ten layers
ALL, HALF = LayerSpan(0, 10), LayerSpan(5, 10)


def test_round_trip_and_the_layers_share_of_a_step() -> None:
    near = Measurement(0.01)
    assert predicted_seconds(RECORD, ALL, near) == pytest.approx(0.11)
    assert predicted_seconds(RECORD, HALF, near) == pytest.approx(0.06)


def test_what_is_not_measured_is_assumed() -> None:
    assert predicted_seconds(RECORD, ALL, UNMEASURED) == pytest.approx(ASSUMED_ROUND_TRIP + 0.1)
    for silent in (None, 0.0):
        record = make_record(1, "0-9", tokens_per_second=silent)
        assert predicted_seconds(record, ALL, Measurement(0.0)) == pytest.approx(10 * ASSUMED_LAYER_SECONDS)


def test_waiting_rows_cost_a_step_for_each_tile_however_few_layers_are_wanted() -> None:
    busy = Measurement(0.0, queue_rows=32)
    assert predicted_seconds(RECORD, ALL, busy) == pytest.approx(0.1 + 0.2)
    assert predicted_seconds(RECORD, HALF, busy) == pytest.approx(0.05 + 0.2)


def test_an_observed_step_beyond_the_announced_one_is_waiting() -> None:
    slow = Measurement(0.0, step_seconds=0.5)
    assert predicted_seconds(RECORD, ALL, slow) == pytest.approx(0.5)
    assert predicted_seconds(RECORD, HALF, slow) == pytest.approx(0.45)
    assert predicted_seconds(RECORD, ALL, Measurement(0.0, step_seconds=0.04)) == pytest.approx(0.04)
    both = Measurement(0.0, queue_rows=16, step_seconds=0.5)
    assert predicted_seconds(RECORD, ALL, both) == pytest.approx(0.5), "the wait is not counted twice"


@given(
    st.none() | st.floats(0, allow_nan=False),
    st.none() | st.floats(),
    st.integers(-5, 1 << 60),
    st.none() | st.floats(),
)
def test_no_claim_makes_a_time_negative_or_endless(
    claimed: float | None, round_trip: float | None, queue: int, step: float | None
) -> None:
    record = make_record(1, "0-9", tokens_per_second=claimed)
    seconds = predicted_seconds(record, HALF, Measurement(round_trip, queue, step))
    assert math.isfinite(seconds)
    assert seconds >= 0
