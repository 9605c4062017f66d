"""What is special to decoders from before Llama: spellings of names, refusals, biases that fall off with distance."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.families import CONFIGS
from support.families_classics import PUBLISHED
from support.oracles import make_oracle_model
from torch import Tensor

from swarm.engine import PRECISIONS, Head, Stage
from swarm.engine.layers.alibi import AlibiTable, slopes
from swarm.errors import ModelFault
from swarm.model.families import FAMILIES
from swarm.model.spec import ModelSpec
from swarm.model.tensor_names import head_tensors, layer_tensors


def logits_of(directory: Path, rows: int = 40) -> Tensor:
    stage, head = Stage.load(directory, precision="fp32"), Head.load(directory, precision="fp32")
    return head.logits(stage.chunk(stage.open(rows), head.embed(range(rows), 0)))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_have_as_many_parameters_as_is_said_of_them(name: str) -> None:
    config, parameters = PUBLISHED[name]
    spec = ModelSpec.from_config(config)
    shapes = [shape for layer in spec.span for shape in layer_tensors(spec, layer).values()]
    assert sum(map(math.prod, [*shapes, *head_tensors(spec).values()])) == parameters


# What was saved with the weights and is no weight: masks and constants
BUFFERS = {
    "gpt-neox": {
        "attention.bias": torch.ones(1, 1, 8, 8, dtype=torch.bool),
        "attention.masked_bias": torch.tensor(-1e9),
        "attention.rotary_emb.inv_freq": torch.ones(2),
    },
    "gpt2": {"attn.bias": torch.ones(1, 1, 8, 8), "attn.masked_bias": torch.tensor(-1e4)},
}


@pytest.mark.parametrize(
    ("name", "written", "layers"),
    [
        ("gpt2", "transformer.", "h.{layer}."),
        ("gpt-neox", "gpt_neox.", "layers.{layer}."),
        ("opt", "model.", ""),
        ("bloom", "transformer.", ""),
        ("falcon", "transformer.", ""),
    ],
)
def test_a_prefix_may_be_left_out(tmp_path: Path, name: str, written: str, layers: str) -> None:
    """As of a model without its head, where that is the embedding."""
    directory = make_oracle_model(tmp_path / name, CONFIGS[name])
    expected, file = logits_of(directory), directory / "model.safetensors"
    tensors = {key.removeprefix(written): each for key, each in load_file(file).items()}
    for layer in range(3):
        for buffer, tensor in BUFFERS.get(name, {}).items():
            tensors[f"{layers.format(layer=layer)}{buffer}"] = tensor.clone()
    assert not any(key.startswith(written) for key in tensors)
    save_file(tensors, file)
    (architecture,) = CONFIGS[name]["architectures"]
    architectures = [*FAMILIES[architecture].also[:1], architecture][:1]
    (directory / "config.json").write_text(json.dumps({**CONFIGS[name], "architectures": architectures}))
    assert torch.equal(logits_of(directory), expected)


@pytest.mark.parametrize("name", ["gpt2", "bloom"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_sixteen_bits(tmp_path: Path, name: str, dtype: torch.dtype) -> None:
    directory = make_oracle_model(tmp_path / name, CONFIGS[name])
    rounded = {key: each.to(dtype) for key, each in load_file(directory / "model.safetensors").items()}
    save_file(rounded, directory / "model.safetensors")
    halves = logits_of(directory)
    save_file({key: each.float() for key, each in rounded.items()}, directory / "model.safetensors")
    assert torch.equal(logits_of(directory), halves)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["gpt2-odd", "opt-norms-of-sums", "bloom-odd"])
def test_an_embedded_row_does_not_depend_on_its_neighbours(precision: str, name: str) -> None:
    head = Head.random(ModelSpec.from_config(CONFIGS[name]), precision)
    together = head.embed(range(70), 9)
    assert torch.equal(together, torch.cat([head.embed([token], 9 + token) for token in range(70)]))


def test_a_norm_of_two_readers_is_held_once() -> None:
    spec = ModelSpec.from_config(CONFIGS["falcon"])
    layer = Stage.random(spec, spec.span, "fp32").decoder.layers[0]
    assert layer.attention_norm is not None
    assert layer.mlp_norm is layer.attention_norm
    assert layer.bytes == layer.mixer.bytes + layer.mlp.bytes + layer.attention_norm.bytes


def test_slopes_as_the_paper_gives_them() -> None:
    assert slopes(8) == [2.0**-exponent for exponent in range(1, 9)]
    assert slopes(16) == pytest.approx([2.0 ** (-exponent / 2) for exponent in range(1, 17)])
    assert slopes(1) == [2.0**-8]
    # No power of two: those of the one below, and then the first, third and so on of the one above
    assert slopes(12) == pytest.approx(slopes(8) + slopes(16)[::2][:4])
    assert slopes(71) == pytest.approx(slopes(64) + slopes(128)[::2][:7])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_bias_is_the_distance_times_the_slope(dtype: torch.dtype) -> None:
    table = AlibiTable(6, dtype, torch.device("cpu"))
    start, stop, first = 2040, 2060, 1000  # over the end of a block
    keys, queries = torch.arange(first, stop), torch.arange(start, stop)
    expected = torch.tensor(slopes(6), dtype=torch.float64).view(-1, 1, 1) * (keys - queries.unsqueeze(1))
    rows = table.rows(start, stop, first)
    torch.testing.assert_close(rows.double(), expected, rtol=2**-8 if dtype == torch.bfloat16 else 2**-23, atol=0)
    for query in (start, stop - 1):
        assert torch.equal(table.row(query)[:, first:], rows[:, query - start, : query + 1 - first])


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("gpt2", {"add_cross_attention": True}, r"add_cross_attention: True is not supported"),
    ("gpt2", {"add_cross_attention": "x"}, r"add_cross_attention: 'x' is not supported"),
    ("gpt2", {"scale_attn_weights": 2}, r"scale_attn_weights: 2 is neither true nor false"),
    ("gpt2", {"activation_function": "mish"}, r"activation_function: 'mish'"),
    ("gpt2", {"n_embd": "64"}, r"n_embd: '64'"),
    ("gpt-neox", {"rotary_pct": 0.35}, r"rotary_pct: 0.35 of a head of 16"),
    ("gpt-neox", {"use_parallel_residual": 1}, r"use_parallel_residual: 1 is neither"),
    ("bloom", {"apply_residual_connection_post_layernorm": True}, r"apply_residual_connection_post_layernorm: True is"),
    ("bloom", {"slow_but_exact": True}, r"slow_but_exact: True is not supported"),
    ("falcon", {"num_ln_in_parallel_attn": 2}, r"num_ln_in_parallel_attn: 2 is not supported; only 1"),
    ("falcon-groups", {"parallel_attn": False}, r"parallel_attn: False is not supported"),
    ("falcon-groups", {"num_kv_heads": 3}, r"num_kv_heads: 3 does not divide"),
    ("falcon", {"alibi": "x"}, r"alibi: 'x' is neither"),
    ("opt", {"word_embed_proj_dim": 0}, r"word_embed_proj_dim: 0"),
    ("opt", {"ffn_dim": -1}, r"ffn_dim: -1"),
    ("opt", {"do_layer_norm_before": "no"}, r"do_layer_norm_before: 'no' is neither"),
    ("gpt2", {"n_embd": None}, r"hidden_size: is missing"),
]


@pytest.mark.parametrize(("name", "changes", "message"), REFUSED)
def test_what_is_not_computed_is_refused_by_name(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelFault, match=message) as caught:
        ModelSpec.from_config({**CONFIGS[name], **changes}, "some/config.json")
    assert "some/config.json" in str(caught.value)
