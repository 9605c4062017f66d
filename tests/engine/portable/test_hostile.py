"""Programs of any shape on numbers that nobody wants: what is none, infinities, subnormals, the largest there are, in weights and
rows. Every way to compute them gives the same bits; `make test-kernels` runs this with kernels that check each access as well."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.families import CONFIGS
from torch import Tensor

from chaos.computers import Computer, restored
from swarm.engine import Stage
from swarm.engine.loading import sources
from swarm.kernels import library
from swarm.model.spec import ModelSpec

HOSTILE = (float("nan"), float("inf"), -float("inf"), 1e-40, -9.2e-41, 3.3e38, -3.3e38, 6e-5, 1e5, -0.0)
SMALL = (1e-40, -9.2e-41, 6e-8, -0.0)
WEIGHTS = ((SMALL, 0.5), (SMALL, 0.02), ((1e5, -3e4), 1e-3), (HOSTILE, 1e-6), (HOSTILE, 1e-3))  # which, and their share
FAMILIES = ("qwen2", "gemma2", "mixtral", "gpt-oss", "gemma4-experts", "qwen3-5", "bloom", "rope-yarn")
PRECISIONS = ("fp32", "bf16", "fp16", "int8", "int4", "bf16+cache-int8", "int4+activations-int16+cache-int8")
MOST_ROWS = 40
FEW, WIDE = st.integers(1, 3), st.integers(1, 60).map(lambda half: 2 * half)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with restored():
        yield
    torch.set_num_threads(threads)


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    """A family's, in sizes of which few are multiples of anything."""
    config, kv_heads = dict(CONFIGS[draw(st.sampled_from(FAMILIES))]), draw(FEW)
    heads, head_dim = kv_heads * draw(FEW), draw(st.integers(1, 10)) * 8
    if config["model_type"] == "bloom":  # whose heads share the width
        return config | {"hidden_size": 16 * heads, "n_head": heads, "num_attention_heads": heads}
    sizes = {
        "hidden_size": draw(WIDE) + 6,
        "intermediate_size": draw(WIDE),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "sliding_window": draw(st.integers(1, 30)) if config.get("sliding_window") else None,
        "moe_intermediate_size": draw(WIDE),
    }
    if config.get("linear_key_head_dim"):
        sizes |= {"linear_key_head_dim": draw(WIDE), "linear_value_head_dim": draw(WIDE)}
    experts = draw(st.integers(3, 7))
    counts = {name: experts for name in ("num_experts", "num_local_experts") if config.get(name)}
    return config | {key: value for key, value in sizes.items() if value is not None} | counts


def hostile(numbers: tuple[float, ...], share: float, seed: int) -> Tensor:
    """What random weights are made of, with such a share of these numbers."""
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randn(1 << 20, generator=generator)
    chosen = torch.rand(1 << 20, generator=generator) < share
    others = torch.tensor(numbers)[torch.randint(0, len(numbers), (1 << 20,), generator=generator)]
    return torch.where(chosen, others, draws).bfloat16()


def rows_of(width: int, count: int, seed: int, dtype: torch.dtype) -> Tensor:
    """Of which the later ones hold more and more of what is hostile, since a row sees those before it."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, width, generator=generator)
    for row in range(count // 2, count):
        place = int(torch.randint(0, width, (1,), generator=generator))
        rows[row, place] = HOSTILE[-1 - (row - count // 2) % len(HOSTILE)]
    return rows.to(dtype)


def passed(stage: Stage, rows: Tensor, cuts: list[tuple[Computer, int, bool]]) -> Tensor:
    done, at = [], 0
    with closing(stage.open(len(rows))) as cache:
        for computer, count, decoding in cuts:
            computer.settle()
            part, at = rows[at : at + count], at + count
            if len(part):
                done.append(stage.decode([(cache, part)])[0] if decoding else stage.chunk(cache, part))
    return torch.cat(done)


def bits(rows: Tensor) -> Tensor:
    """What is none has no bits of its own."""
    return torch.where(rows.isnan(), torch.nan, rows.double())


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_programs_of_any_shape_on_hostile_numbers(data: st.DataObject) -> None:
    kernels = library()
    assert kernels is not None
    spec = ModelSpec.from_config(data.draw(configs()))
    precision, weights = data.draw(st.sampled_from(PRECISIONS)), data.draw(st.sampled_from(WEIGHTS))
    seed, count = data.draw(st.integers(0, 99)), data.draw(st.integers(2, MOST_ROWS))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sources, "_draws", lambda seed: hostile(*weights, seed))
        stage = Stage.random(spec, spec.span, precision, seed=seed, numerics="portable")
    rows = rows_of(stage.width, count, seed, stage.dtype)
    expected = passed(stage, rows, [(Computer(1, kernels.paths()[0]), count, False)])
    for path in kernels.paths():
        computers = st.sampled_from([Computer(threads, path) for threads in (1, 2, 3)])
        cuts = data.draw(st.lists(st.tuples(computers, st.integers(1, 20), st.booleans()), max_size=3))
        found = passed(stage, rows, [*cuts, (Computer(2, path), count, True)])
        assert torch.equal(bits(found).nan_to_num(9e99), bits(expected).nan_to_num(9e99)), path
