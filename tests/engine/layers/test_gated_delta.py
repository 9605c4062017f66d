"""The gated delta rule: a chunk is what its rows are one by one, and a row's bits depend on nobody else."""

from __future__ import annotations

import pytest
import torch
from support.families import CONFIGS
from torch import Tensor

from swarm.engine import PRECISIONS, Stage
from swarm.engine.caches.recurrent_state import Memory
from swarm.engine.layers.gated_delta import Delta
from swarm.errors import ModelFault
from swarm.model.spec import ModelSpec
from swarm.span import LayerSpan

NAMES = ["qwen3-5", "qwen3-next-odd"]


def delta_of(name: str, precision: str = "fp32", **changes: int) -> Delta:
    spec = ModelSpec.from_config({**CONFIGS[name], **changes})
    layer = next(layer for layer in spec.span if spec.kinds[layer].delta)
    mixer = Stage.random(spec, LayerSpan(layer, layer + 1), precision, seed=3).decoder.layers[0].mixer
    assert isinstance(mixer, Delta)
    return mixer


def memory_of(delta: Delta, dtype: torch.dtype, seed: int | None = None) -> Memory:
    """Zeros, or whatever a seed gives."""
    shape = delta.shape
    sizes = (shape.taps - 1, shape.channels), (shape.value_heads, shape.key_dim, shape.value_dim)
    if seed is None:
        return torch.zeros(sizes[0], dtype=dtype), torch.zeros(sizes[1])
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(sizes[0], generator=generator).to(dtype), torch.randn(sizes[1], generator=generator)


def projected(delta: Delta, count: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(count, delta.projection.shape[0], generator=torch.Generator().manual_seed(5)).to(dtype)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 128])
def test_a_chunk_is_its_rows_one_by_one(name: str, count: int) -> None:
    delta = delta_of(name)
    rows, state = projected(delta, count), memory_of(delta, torch.float32, seed=1)
    chunk, window, memory = delta.chunk(rows, state, after := memory_of(delta, torch.float32)), *after
    answers, now = [], state
    for row in torch.split(rows, 1):
        answers.append(delta.step(row, now, written := memory_of(delta, torch.float32)))
        now = written
    for one, other in ((chunk, torch.cat(answers)), (memory, now[1])):
        assert float((one - other).abs().max() / other.abs().max()) < 1e-5
    assert torch.equal(window, now[0])


def test_the_rule_as_the_paper_writes_it() -> None:
    """S' = a S (I - b k k^T) + b v k^T, here transposed (equation 10)."""
    delta = delta_of("qwen3-5")
    state = memory_of(delta, torch.float32, seed=2)
    row, (window, _) = projected(delta, 1), state
    parts = torch.split(row, delta._parts, -1)
    taken = delta._rows(torch.cat((window, parts[0])), *parts[2:])
    delta.step(row, state, after := memory_of(delta, torch.float32))
    for head in range(delta.shape.value_heads):
        key, value = taken.keys[0, head], taken.values[0, head]
        strength, left = taken.strengths[0, head], taken.fading[0, head].exp()
        other = left * (torch.eye(len(key)) - strength * torch.outer(key, key)) @ state[1][head]
        other += strength * torch.outer(key, value)
        assert torch.allclose(after[1][head], other, atol=1e-5)
        assert float(key.norm()) == pytest.approx(1, abs=1e-4)
        assert 0 < float(strength) < 1
        assert 0 < float(left) < 1


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", NAMES)
def test_a_row_s_bits_do_not_depend_on_where_it_lies(name: str, precision: str) -> None:
    delta, dtype = delta_of(name, precision), PRECISIONS[precision].dtype
    rows, state = projected(delta, 17, dtype), memory_of(delta, dtype, seed=1)
    for place in (0, 1, 5, 16):
        alone, among = memory_of(delta, dtype), memory_of(delta, dtype)
        expected = delta.step(rows[place : place + 1].clone(), state, alone)
        assert torch.equal(delta.step(rows[place : place + 1], state, among), expected)
        assert all(torch.equal(*pair) for pair in zip(alone, among, strict=True))
        own = tuple(each.clone() for each in state)  # read and written in one place
        assert torch.equal(delta.step(rows[place : place + 1], own, own), expected)  # type: ignore[arg-type]
        assert all(torch.equal(*pair) for pair in zip(alone, own, strict=True))


@pytest.mark.parametrize("count", [1, 100, 128])
def test_a_chunk_gives_the_same_bits_again(count: int) -> None:
    delta = delta_of("qwen3-next-odd", linear_key_head_dim=128, linear_value_head_dim=128)
    rows, state = projected(delta, count), memory_of(delta, torch.float32, seed=1)
    first = delta.chunk(rows, state, one := memory_of(delta, torch.float32))
    for spare in range(1, 4):  # memory that lies elsewhere
        moved = torch.empty(rows.numel() + spare)[spare:].view(rows.shape).copy_(rows)
        assert torch.equal(delta.chunk(moved, state, other := memory_of(delta, torch.float32)), first)
        assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))


def test_one_tap_is_no_convolution() -> None:
    delta = delta_of("qwen3-5", linear_conv_kernel_dim=1)
    state = memory_of(delta, torch.float32, seed=1)
    assert state[0].shape[0] == 0
    rows = projected(delta, 3)
    chunk = delta.chunk(rows, state, memory_of(delta, torch.float32))
    assert torch.allclose(chunk[:1], delta.step(rows[:1], state, memory_of(delta, torch.float32)), atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"linear_num_key_heads": 3}, "linear_num_key_heads: 3 does not divide the 4 value heads"),
        ({"linear_conv_kernel_dim": 65}, "linear_conv_kernel_dim: 65 is no whole number from 1 to 64"),
        ({"layer_types": ["linear_attention"]}, "layer_types: must be 3 out of full_attention, linear_attention"),
        ({"layer_types": ["sliding_attention"] * 3}, "layer_types: must be 3 out of"),
        ({"full_attention_interval": 0}, "full_attention_interval: 0 is no whole number"),
        ({"attn_output_gate": False}, "attn_output_gate: False is not supported"),
    ],
)
def test_configs_that_cannot_be_meant(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(ModelFault, match=complaint):
        ModelSpec.from_config({**CONFIGS["qwen3-5"], **changes})
