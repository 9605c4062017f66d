"""Plans of precisions: which are one, how they are spelt, and with what words others are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.errors import UsageFault
from swarm.precision import MAX_PLAN_BYTES, PRECISIONS, Plan, Wishes, rows_of


@pytest.mark.parametrize(
    ("text", "name", "rows"),
    [
        ("bf16", "bf16", "bf16"),
        ("fp32", "fp32", "fp32"),
        ("int4", "int4", "bf16"),
        ("fp16", "fp16", "bf16"),
        ("0-3=bf16,4-23=int4", "0-3=bf16,4-23=int4", "bf16"),
        (" 4-23 = int4 , 0-3 = bf16 ", "0-3=bf16,4-23=int4", "bf16"),
        ("0=bf16,1-3=bf16,4-22=int4,23=int4", "0-3=bf16,4-23=int4", "bf16"),
        ("0-11=int8,12-23=int8", "int8", "bf16"),
        ("0-3=fp32,4-23=int4", "0-3=fp32,4-23=int4", "fp32"),
        ("0-3=fp32,4-22=int4,23=bf16", "0-3=fp32,4-22=int4,23=bf16", "bf16"),
        ("int4+cache-int8", "int4+cache-int8", "bf16"),
        ("fp32+cache-int8", "fp32+cache-int8", "fp32"),
        ("int8 + cache-int8 + activations-int16", "int8+activations-int16+cache-int8", "bf16"),
        ("0-11=int8,12-23=int8+cache-int8", "int8+cache-int8", "bf16"),
        ("4-23=int4,0-3=bf16+activations-int16", "0-3=bf16,4-23=int4+activations-int16", "bf16"),
        # what goes without saying is not said
        ("int4+activations-int8+cache-bf16", "int4", "bf16"),
        ("fp32+cache-bf16", "fp32+cache-bf16", "fp32"),
    ],
)
def test_a_plan_has_one_spelling(text: str, name: str, rows: str) -> None:
    plan = Plan.parse(text).over(24)
    assert (plan.name, plan.rows) == (name, rows)
    assert Plan.parse(plan.name).over(24) == plan


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("int3", "unknown precision 'int3'.*fp32, bf16.*0-3=bf16,4-23=int4"),
        ("0-3=int3,4-23=int4", "unknown precision 'int3'"),
        ("0-3=bf16,3-23=int4", "layer 3 twice, in 0-3 and in 3-23"),
        ("0-3=bf16,0-3=int4,4-23=bf16", "layers 0-3 twice"),
        ("0-3=bf16,6-23=int4", "says nothing of layers 4-5"),
        ("1-23=bf16", "says nothing of layer 0"),
        ("0-3=bf16,4-20=int4", "says nothing of layers 21-23"),
        ("0-3=bf16,4-30=int4", "layers 24-30: the model has 24 layers"),
        ("0-24=bf16", "layer 24: the model has 24 layers"),
        ("a-3=bf16,4-23=int4", "'a-3' is no range of layers"),
        ("0-3=bf16,int4", "'int4' is no range of layers"),
        ("0-3=bf16,", "'' is no range of layers"),
        ("int4+cache-int4", "--cache-precision int4: choose one of bf16, int8"),
        ("int4+activations-fp32", "--activations fp32: choose one of int8, int16"),
        ("bf16+activations-int16", "weights that are integers, which the plan bf16 has none of"),
        ("int4+cache-int8+cache-bf16", "--cache-precision bf16: the plan int4.cache-int8 says int8"),
        ("int4+weights-int8", "after a plus comes one of .*cache-int8, not 'weights-int8'"),
        ("int4+", "after a plus comes one of .*, not ''"),
        (",".join(f"{layer}={('int4', 'int8')[layer % 2]}" for layer in range(24)), "use fewer ranges"),
    ],
)
def test_what_is_no_plan_of_a_model_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageFault, match=words):
        Plan.parse(text).over(24)


@given(st.lists(st.sampled_from(PRECISIONS), min_size=1, max_size=8))
def test_a_plan_gives_each_layer_what_it_says(names: list[str]) -> None:
    plan = Plan.parse(",".join(f"{layer}={name}" for layer, name in enumerate(names))).over(len(names))
    assert [plan.of(layer) for layer in range(len(names))] == names
    assert plan.last == names[-1]
    assert len(plan.name) <= MAX_PLAN_BYTES


def test_what_rows_of_a_strangers_plan_are() -> None:
    assert (rows_of("int4"), rows_of("0=fp32,1=int8"), rows_of("q9")) == ("bf16", "fp32", None)
    assert (rows_of("fp32+cache-int8"), rows_of("int4+cache-int2")) == ("fp32", None)


@pytest.mark.parametrize(
    ("activations", "cache", "plan", "applied", "unmet"),
    [
        (None, None, "int4+cache-int8", "int4+cache-int8", None),
        ("int16", None, "int4", "int4+activations-int16", "activations of int8 and not of int16"),
        ("int16", "int8", "bf16", "bf16+cache-int8", "caches of bf16 and not of int8"),
        ("int8", "bf16", "int4", "int4", None),
        (None, "bf16", "fp32", "fp32+cache-bf16", "caches of fp32 and not of bf16"),
        (None, "int8", "fp32+cache-int8", "fp32+cache-int8", None),
    ],
)
def test_what_a_user_wishes_of_a_plan(
    activations: str | None, cache: str | None, plan: str, applied: str, unmet: str | None
) -> None:
    wishes, parsed = Wishes(activations, cache), Plan.parse(plan)
    assert wishes.applied(parsed).name == applied
    found = wishes.unmet(parsed)
    assert (found is None) is (unmet is None)
    assert unmet is None or unmet in str(found)
    assert wishes.unmet(wishes.applied(parsed)) is None
