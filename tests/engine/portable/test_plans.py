"""Plans of several precisions in one model: the same bits wherever it is cut, and the bytes that the plan says."""

from __future__ import annotations

import pytest
import torch
from support.families import CONFIGS

from swarm.engine import Head, Stage, footprint
from swarm.engine.numerics import PORTABLE, numerics_class, plan_named
from swarm.errors import UsageFault
from swarm.kernels import library
from swarm.model.spec import ModelSpec
from swarm.span import LayerSpan

SPECS = {name: ModelSpec.from_config(CONFIGS[name]) for name in ("qwen3", "gpt-oss", "falcon")}
ROWS = 20


def plans_of(spec: ModelSpec) -> list[str]:
    last = spec.layer_count - 1
    return [
        f"0=bf16,{LayerSpan(1, last + 1)}=int4",
        f"{LayerSpan(0, last)}=int8,{last}=fp32",
        f"0=fp32,{LayerSpan(1, last)}=fp16,{last}=bf16",
    ]


@pytest.mark.parametrize("name", SPECS)
def test_cuts_and_instructions_change_no_bit(name: str) -> None:
    spec, kernels = SPECS[name], library()
    assert kernels is not None
    ids = torch.randint(0, 256, (ROWS,), generator=torch.Generator().manual_seed(7)).tolist()
    for plan in plans_of(spec):
        head = Head.random(spec, plan, seed=1, numerics="portable")
        rows = head.embed(ids, 0)
        whole = Stage.random(spec, spec.span, plan, numerics="portable")
        expected = whole.chunk(whole.open(ROWS), rows)
        assert expected.dtype == whole.dtype == head.embed(ids, 0).dtype
        path = kernels.path
        try:
            for boundary in range(1, spec.layer_count):
                kernels.choose(kernels.paths()[boundary % 2])
                passed = rows
                for span in (LayerSpan(0, boundary), LayerSpan(boundary, spec.layer_count)):
                    part = Stage.random(spec, span, plan, numerics="portable")
                    assert part.numerics == head.numerics == f"{PORTABLE}:{plan}"
                    passed = part.chunk(part.open(ROWS), passed)
                assert torch.equal(passed, expected)
        finally:
            kernels.choose(path)
        assert torch.isfinite(head.logits(expected)).all()


def test_a_layer_has_the_bits_that_it_has_in_a_plan_of_its_own() -> None:
    """Rows being the same, for which a plan of bf16 and integers is looked at."""
    spec = SPECS["qwen3"]
    plan = f"0=bf16,1-{spec.layer_count - 1}=int4"
    rows = torch.randn(ROWS, spec.hidden, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)
    for layer, alone in ((0, "bf16"), (1, "int4")):
        outputs = [
            stage.chunk(stage.open(ROWS), rows)
            for stage in (
                Stage.random(spec, LayerSpan(layer, layer + 1), each, numerics="portable") for each in (plan, alone)
            )
        ]
        assert torch.equal(*outputs)


def test_bytes_are_those_of_the_plan() -> None:
    spec = SPECS["qwen3"]
    last = spec.layer_count - 1
    plan = f"0=bf16,1-{last}=int4"
    parts = footprint(spec, LayerSpan(0, 1), "bf16") + footprint(spec, LayerSpan(1, last + 1), "int4")
    assert footprint(spec, spec.span, plan) == parts
    rows = footprint(spec, spec.span, plan, 100) - parts
    assert rows == footprint(spec, spec.span, "bf16", 100) - footprint(spec, spec.span, "bf16")
    with_head = footprint(spec, spec.span, plan, with_head=True) - parts
    assert with_head == footprint(spec, spec.span, "int4", with_head=True) - footprint(spec, spec.span, "int4")
    stage = Stage.random(spec, spec.span, plan, numerics="portable")
    assert 0.7 * parts <= stage.weight_bytes <= 1.2 * parts


def test_several_precisions_are_computed_portably_alone() -> None:
    with pytest.raises(UsageFault, match="several precisions in one model, which only --numerics portable"):
        plan_named("0=bf16,1-3=fp32", "native", 4)
    with pytest.raises(UsageFault, match="--precision int4: only --numerics portable"):
        plan_named("0-1=int4,2-3=int4", "native", 4)
    assert plan_named("0-1=bf16,2-3=bf16", "native", 4).name == "bf16"
    longest = plan_named("0-1=bf16,2-3=int8", "portable", 4)
    assert numerics_class(longest.between) == f"{PORTABLE}:0-1=bf16,2-3=int8"
