"""config.json in its spellings, and every way in which it can be wrong: the file and the field are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.models import make_config, make_model

from swarm.checkpoint.config import read_spec
from swarm.errors import ModelFault
from swarm.model.families import FAMILIES
from swarm.model.rotary import Rope
from swarm.model.spec import ModelSpec
from swarm.model.tensor_names import head_tensors, layer_tensors
from swarm.span import LayerSpan


def test_a_plain_config() -> None:
    spec = ModelSpec.from_config(make_config())
    assert (spec.layer_count, spec.hidden, spec.heads, spec.kinds[0].kv_heads, spec.kinds[0].head_dim) == (
        4,
        64,
        4,
        2,
        16,
    )
    assert spec.span == LayerSpan(0, 4)
    assert spec.ropes == (Rope("default", 10000.0),)
    assert (spec.bos_id, spec.eos_ids, spec.tied) == (256, (257,), True)


def test_defaults_are_the_family_s() -> None:
    omitted = ("rms_norm_eps", "rope_theta", "tie_word_embeddings", "num_key_value_heads", "attention_bias")
    spec = ModelSpec.from_config(make_config(**dict.fromkeys(omitted)))
    assert (spec.norm_eps, spec.tied, spec.kinds[0].kv_heads, spec.qkv_bias) == (1e-6, False, 4, False)


@pytest.mark.parametrize("spelling", ["rope_scaling", "rope_parameters"])
def test_llama3_rope_in_both_spellings(spelling: str) -> None:
    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1,
        "high_freq_factor": 4,
        "original_max_position_embeddings": 512,
    }
    inside = {"rope_theta": 5e5} if spelling == "rope_parameters" else {}
    config = make_config(rope_theta=None if inside else 5e5, **{spelling: scaling | inside})
    assert ModelSpec.from_config(config).ropes == (Rope("llama3", 5e5, 8.0, 1.0, 4.0, 512),)


def test_both_spellings_at_once_may_say_the_same() -> None:
    older = {"rope_scaling": {"type": "linear", "factor": 4.0}, "rope_theta": 5e4}
    newer = {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 5e4}}
    assert ModelSpec.from_config(make_config(**older, **newer)).ropes == (Rope("linear", 5e4, 4.0),)


def test_a_rope_for_each_layer_type() -> None:
    nested = {"full_attention": {"rope_theta": 5e5}, "sliding_attention": {"rope_theta": 1e3}}
    spec = ModelSpec.from_config(make_config(rope_theta=None, rope_parameters=nested))
    assert spec.ropes == (Rope("default", 5e5), Rope("default", 1e3))
    assert {kind.rope for kind in spec.kinds} == {0}  # no layer of it has a window


def test_no_session_goes_where_longrope_would_change_its_frequencies() -> None:
    scaling = {"type": "longrope", "short_factor": [1.0] * 8, "original_max_position_embeddings": 512}
    assert ModelSpec.from_config(make_config(rope_scaling=scaling)).max_positions == 512


def test_shapes_of_a_layer_and_of_the_head() -> None:
    spec = ModelSpec.from_config(make_config(attention_bias=True, head_dim=24, tie_word_embeddings=False))
    layer = layer_tensors(spec, 2)
    assert layer["model.layers.2.self_attn.q_proj.weight"] == (96, 64)
    assert layer["model.layers.2.self_attn.k_proj.bias"] == (48,)
    assert layer["model.layers.2.self_attn.o_proj.weight"] == (64, 96)
    assert "model.layers.2.mlp.up_proj.bias" not in layer
    assert head_tensors(spec)["lm_head.weight"] == (288, 64)


def test_a_model_without_any_attention_has_no_layer_that_turns_rows() -> None:
    spec = ModelSpec.from_config(make_config(**QWEN3_5, head_dim=32))
    assert [kind.rope for kind in spec.kinds] == [None] * 4


@pytest.mark.parametrize(("outer", "inner", "tied"), [(True, False, True), (False, True, False), (None, True, True)])
def test_a_head_is_tied_as_the_whole_model_says(outer: bool | None, inner: bool, tied: bool) -> None:
    config = {"architectures": ["Qwen3_5ForConditionalGeneration"], "tie_word_embeddings": outer}
    nested = make_config(head_dim=32, tie_word_embeddings=inner)
    assert ModelSpec.from_config({**config, "text_config": nested}).tied is tied


MISTRAL: dict[str, Any] = {"architectures": ["MistralForCausalLM"]}
QWEN2: dict[str, Any] = {"architectures": ["Qwen2ForCausalLM"]}
MIXTRAL: dict[str, Any] = {"architectures": ["MixtralForCausalLM"]}
GEMMA3: dict[str, Any] = {"architectures": ["Gemma3ForCausalLM"]}
MODERNBERT: dict[str, Any] = {"architectures": ["ModernBertModel"]}
QWEN3_5: dict[str, Any] = {"architectures": ["Qwen3_5ForCausalLM"], "layer_types": ["linear_attention"] * 4}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"architectures": ["MambaForCausalLM"]}, r"architectures.*MambaForCausalLM.*LlamaForCausalLM"),
    ({"architectures": None, "model_type": "mamba"}, r"architectures.*mamba"),
    ({"architectures": "LlamaForCausalLM"}, r"architectures"),
    ({"hidden_size": None}, r"hidden_size: is missing"),
    ({"hidden_size": "64"}, r"hidden_size: '64'"),
    ({"hidden_size": True}, r"hidden_size"),
    ({"num_hidden_layers": 0}, r"num_hidden_layers"),
    ({"num_hidden_layers": 1 << 40}, r"num_hidden_layers"),
    ({"num_key_value_heads": 3}, r"num_key_value_heads: 3 does not divide"),
    ({"head_dim": 15}, r"head_dim: 15 is odd"),
    ({"hidden_act": "prelu"}, r"hidden_act: 'prelu'.*silu"),
    ({"rms_norm_eps": -1}, r"rms_norm_eps"),
    ({"rms_norm_eps": float("nan")}, r"rms_norm_eps"),
    ({"rope_theta": "x"}, r"rope_theta"),
    ({"rope_theta": 10**400}, r"rope_theta"),
    ({"architectures": ["GptOssForCausalLM"], "swiglu_limit": 1e308}, r"swiglu_limit: 1e\+308"),
    ({"architectures": ["RobertaModel"], "pad_token_id": []}, r"pad_token_id: \[\]"),
    ({"rope_scaling": {"rope_type": "spiral"}}, r"rope_scaling.*spiral.*llama3"),
    ({"rope_scaling": {"rope_type": "llama3", "factor": 8}}, r"low_freq_factor"),
    ({"rope_scaling": [1]}, r"rope_scaling"),
    (
        {"rope_scaling": {"type": "yarn", "factor": 4.0}, "rope_parameters": {"rope_theta": 1e6}},
        r"rope_scaling: .* is not what rope_parameters says",
    ),
    ({"rope_parameters": [1]}, r"rope_parameters: \[1\] is no object"),
    ({"partial_rotary_factor": 1.5}, r"partial_rotary_factor"),
    ({"rope_scaling": {"rope_type": "yarn", "factor": 2}, "rope_theta": 1.0}, r"rope_scaling.*rope_theta of 1"),
    ({"rope_scaling": {"rope_type": "yarn", "original_max_position_embeddings": 0.5}}, r"rope_scaling: 0 original"),
    ({"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0]}}, r"short_factor: must be a list of 8"),
    ({"rope_scaling": {"rope_type": "longrope", "short_factor": [0] * 8}}, r"short_factor: 0"),
    ({"rope_parameters": {"full_attention": [1]}}, r"rope_parameters: full_attention"),
    ({"text_config": [1]}, r"text_config"),
    ({**MISTRAL, "sliding_window": "x"}, r"sliding_window: 'x'"),
    ({**QWEN2, "use_sliding_window": True, "layer_types": ["full_attention"]}, r"layer_types: must be 4 out of"),
    ({**QWEN2, "use_sliding_window": True, "max_window_layers": -1}, r"max_window_layers: -1"),
    ({**MIXTRAL, "num_local_experts": 1 << 20}, r"num_local_experts"),
    ({**MIXTRAL, "num_experts_per_tok": 9}, r"num_experts_per_tok: 9"),
    ({**MIXTRAL, "mlp_only_layers": 3}, r"mlp_only_layers"),
    ({**GEMMA3, "use_bidirectional_attention": True}, r"use_bidirectional_attention: True is not supported"),
    ({**MODERNBERT, "rope_scaling": {"rope_type": "linear", "factor": 2.0}}, r"rope_scaling: .* is not supported"),
    ({**QWEN3_5, "hidden_act": "gelu"}, r"hidden_act: 'gelu' is not supported"),
    ({"tie_word_embeddings": 1}, r"tie_word_embeddings"),
    ({"eos_token_id": 1000}, r"eos_token_id.*288"),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=[next(iter(changes)) for changes, _ in BAD])
def test_what_is_wrong_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelFault, match=message) as caught:
        ModelSpec.from_config(make_config(**changes), "some/config.json")
    assert "some/config.json" in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", "[1]", "[" * 100000, "\xff", "9" * 5000])
def test_files_that_hold_no_config(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content, "latin-1")
    with pytest.raises(ModelFault, match=r"config\.json"):
        read_spec(tmp_path)


def test_no_such_directory_and_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ModelFault, match="no such directory"):
        read_spec(tmp_path / "absent")
    with pytest.raises(ModelFault, match=r"config\.json: cannot be read"):
        read_spec(tmp_path)


def test_generation_config_adds_ids_that_end_an_answer(tmp_path: Path) -> None:
    make_model(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [257, 260]}))
    assert read_spec(tmp_path).eos_ids == (257, 260)


def test_an_unknown_architecture_is_told_what_to_do_before_what_is_known() -> None:
    config = make_config(architectures=["StableLmForCausalLM"], model_type="stablelm")
    with pytest.raises(
        ModelFault, match=r"\['StableLmForCausalLM'\] is not known here; `--backend transformers`"
    ) as raised:
        ModelSpec.from_config(config)
    known = str(raised.value).partition("known model types: ")[2].split(", ")
    assert known == sorted({family.model_type for family in FAMILIES.values()})


def test_another_class_of_a_known_model_type_is_told_the_known_ones() -> None:
    with pytest.raises(ModelFault, match=r"known of model_type llama: .*LlamaForCausalLM"):
        ModelSpec.from_config(make_config(architectures=["LlamaForTokenClassification"], model_type="llama"))
