"""The shortest chain: as good as trying all, never worse than the greedy one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.records import make_record, peer

from swarm.records import PeerRecord
from swarm.routing.cost import Measurement, Prices
from swarm.routing.shortest import shortest
from swarm.span import LayerSpan

LAYERS = 5
WHOLE = LayerSpan(0, LAYERS)
seconds = st.sampled_from([0.001, 0.01, 0.03, 0.1, 0.25])


@st.composite
def swarms(draw: st.DrawFn) -> tuple[list[PeerRecord], Prices]:
    count = draw(st.integers(1, 4))
    records = []
    for number in range(count):
        start = draw(st.integers(0, LAYERS - 1)) if number else 0
        stop = draw(st.integers(start + 1, LAYERS)) if number else LAYERS  # the first holds all: a chain there is
        speed = draw(st.sampled_from([None, 2.0, 10.0, 50.0]))
        records.append(make_record(number + 1, f"{start}-{stop - 1}", tokens_per_second=speed))
    measured = {
        record.peer_id: Measurement(draw(st.none() | seconds), draw(st.sampled_from([0, 16, 64]))) for record in records
    }
    pairs = [(one.peer_id, other.peer_id) for one, other in combinations(records, 2)]
    between = {pair: draw(seconds) for pair in pairs if draw(st.booleans())}
    return records, Prices(measured, draw(st.booleans()), between)


def every(
    records: list[PeerRecord], start: int, before: PeerRecord | None = None, stop: int = LAYERS
) -> Iterator[list[tuple[PeerRecord, LayerSpan]]]:
    """All chains from a layer on. Nobody goes on after itself."""
    if start == stop:
        yield []
    for record in records:
        if record is before or start not in record.span:
            continue
        for end in range(start + 1, record.span.stop + 1):
            for rest in every(records, end, record, stop):
                yield [(record, LayerSpan(start, end)), *rest]


@settings(max_examples=60)
@given(swarms())
def test_none_is_shorter(drawn: tuple[list[PeerRecord], Prices]) -> None:
    records, prices = drawn
    chain, taken = shortest(records, WHOLE, prices)
    assert taken == pytest.approx(prices.of(chain))
    assert [layer for _, part in chain for layer in range(part.start, part.stop)] == list(range(LAYERS))
    assert taken == pytest.approx(min(map(prices.of, every(records, 0))))


def test_a_worker_that_is_near_the_next_is_worth_more_than_one_that_is_near_us() -> None:
    records = [make_record(1, "0-4", tokens_per_second=100.0), make_record(2, "0-4", tokens_per_second=100.0)]
    records.append(make_record(3, "5-9", tokens_per_second=100.0))
    measured = {peer(1): Measurement(0.02), peer(2): Measurement(0.06), peer(3): Measurement(0.1)}
    between = {(peer(2), peer(3)): 0.001, (peer(3), peer(1)): 0.1}
    for direct, first in ((True, 2), (False, 1)):
        chain, _ = shortest(records, LayerSpan(0, 10), Prices(measured, direct, between))
        assert [record.peer_id for record, _ in chain] == [peer(first), peer(3)]


def test_a_third_worker_may_be_a_way_round_a_bad_edge() -> None:
    """In the middle of layers that all three hold: where spans begin and end, nobody would look."""
    speeds = {1: ("0-3", 1000.0), 2: ("2-5", 1000.0), 3: ("0-5", 5.0)}
    records = [make_record(number, span, tokens_per_second=speed) for number, (span, speed) in speeds.items()]
    measured = {peer(1): Measurement(0.001), peer(2): Measurement(0.6), peer(3): Measurement(0.6)}
    prices = Prices(measured, True, {(peer(1), peer(3)): 0.001, (peer(3), peer(2)): 0.001})
    chain, taken = shortest(records, LayerSpan(0, 6), prices)
    assert [len(part) for record, part in chain if record.peer_id == peer(3)] == [1]
    assert taken == pytest.approx(min(prices.of(chain) for chain in every(records, 0, stop=6)))


def test_no_part_ends_within_a_bond() -> None:
    records = [make_record(1, "0-3", tokens_per_second=100.0), make_record(2, "0-9", tokens_per_second=1.0)]
    prices = Prices({peer(1): Measurement(0.001), peer(2): Measurement(0.001)})
    parts = lambda bonds: [str(part) for _, part in shortest(records, LayerSpan(0, 10), prices, bonds)[0]]  # noqa: E731
    assert parts(()) == ["0-3", "4-9"]
    assert parts((LayerSpan(2, 6),)) == ["0-1", "2-9"]
