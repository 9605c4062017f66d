"""Layers as people write them and as code counts them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.errors import UsageFault
from swarm.span import MAX_LAYERS, AutoLayers, LayerSpan, held_in_part, missing_layers, name_layers

spans = st.tuples(st.integers(0, 30), st.integers(1, 12)).map(lambda pair: LayerSpan(pair[0], sum(pair)))


def test_text_includes_both_ends() -> None:
    assert LayerSpan.parse("10-20") == LayerSpan(10, 21)
    assert LayerSpan.parse(" 3 - 4 ") == LayerSpan(3, 5)
    assert LayerSpan.parse("7") == LayerSpan(7, 8)
    assert LayerSpan.parse("0-0") == LayerSpan(0, 1)


@pytest.mark.parametrize("text", ["", "-", "5-", "-5", "9-3", "a-b", "1-2-3", "4096", "99999", "1.5", "0x3"])
def test_what_is_no_range_is_refused_by_name(text: str) -> None:
    with pytest.raises(UsageFault, match="FIRST-LAST"):
        LayerSpan.parse(text)


def test_layers_that_the_worker_chooses() -> None:
    assert AutoLayers.parse("auto") == AutoLayers(MAX_LAYERS)
    assert AutoLayers.parse(" auto:20 ") == AutoLayers(20)
    assert AutoLayers.parse("10-20") == LayerSpan(10, 21)


@pytest.mark.parametrize("text", ["auto:", "auto:0", "auto:4097", "auto20", "auto:-1", "auto:5-9"])
def test_what_is_no_choice_of_layers_is_refused(text: str) -> None:
    with pytest.raises(UsageFault, match="no choice of layers"):
        AutoLayers.parse(text)


@given(spans)
def test_text_reads_back(span: LayerSpan) -> None:
    assert LayerSpan.parse(str(span)) == span


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (3, 2), (-1, 2), (0, MAX_LAYERS + 1)])
def test_there_are_no_empty_or_huge_spans(start: int, stop: int) -> None:
    with pytest.raises(ValueError, match="no such span"):
        LayerSpan(start, stop)


@given(spans, spans)
def test_spans_are_sets_of_layers(one: LayerSpan, other: LayerSpan) -> None:
    both = one.intersection(other)
    assert set(both or ()) == set(one) & set(other)
    assert one.covers(other) == (set(other) <= set(one))
    assert len(one) == len(set(one))
    assert one.start in one
    assert one.stop not in one


@given(st.lists(spans, max_size=6), spans)
def test_missing_layers_are_those_in_no_span(held: list[LayerSpan], wanted: LayerSpan) -> None:
    missing = missing_layers(held, wanted)
    assert {layer for span in missing for layer in span} == set(wanted) - {layer for span in held for layer in span}
    assert list(missing) == sorted(missing)
    assert all(left.stop < right.start for left, right in itertools.pairwise(missing))


def test_names_of_layers() -> None:
    assert name_layers([LayerSpan(3, 4)]) == "layer 3"
    assert name_layers([LayerSpan(3, 6)]) == "layers 3-5"
    assert name_layers([LayerSpan(3, 6), LayerSpan(9, 10)]) == "layers 3-5, 9"


def test_a_bond_that_is_held_in_part_is_found() -> None:
    bonds = (LayerSpan(2, 5), LayerSpan(7, 9))
    for whole in (
        LayerSpan(0, 2),
        LayerSpan(2, 5),
        LayerSpan(0, 7),
        LayerSpan(5, 9),
        LayerSpan(0, 10),
        LayerSpan(5, 7),
    ):
        assert held_in_part(whole, bonds) is None
    assert held_in_part(LayerSpan(0, 3), bonds) == bonds[0]
    assert held_in_part(LayerSpan(4, 8), bonds) == bonds[0]
    assert held_in_part(LayerSpan(0, 8), bonds) == bonds[1]
    assert held_in_part(LayerSpan(0, 1), ()) is None
