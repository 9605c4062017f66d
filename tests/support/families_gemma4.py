"""Tiny config.json of gemma4, in the spellings in which people hold them, and checkpoints of such models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from support.models import make_tokenizer
from support.oracles import TINY

from swarm.model.spec import ModelSpec
from swarm.model.tensor_names import head_tensors, layer_tensors, token_tensors

ODD = {"hidden_size": 100, "num_attention_heads": 5, "num_key_value_heads": 1, "intermediate_size": 344}
FULL, SLIDING = "full_attention", "sliding_attention"
TOKENS = {"vocab_size_per_layer_input": 288}
ROPES = {
    FULL: {"rope_type": "proportional", "partial_rotary_factor": 0.5, "rope_theta": 5e4, "factor": 2.0},
    SLIDING: {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e3},
}


def _gemma4(**changes: Any) -> dict[str, Any]:
    sizes = {"head_dim": 16, "global_head_dim": 32, "sliding_window": 33, "hidden_size_per_layer_input": 0}
    types = {"layer_types": [SLIDING, FULL, FULL]}
    return {
        **TINY,
        "architectures": ["Gemma4ForCausalLM"],
        "model_type": "gemma4_text",
        **sizes,
        **types,
        **changes,
    }


CONFIGS: dict[str, dict[str, Any]] = {
    "gemma4": _gemma4(final_logit_softcapping=5.0),
    "gemma4-odd": _gemma4(**ODD, head_dim=20, global_head_dim=28, attention_bias=True, tie_word_embeddings=False),
    "gemma4-keys": _gemma4(attention_k_eq_v=True, num_global_key_value_heads=1, layer_types=None),
    "gemma4-experts": _gemma4(
        enable_moe_block=True, num_experts=6, top_k_experts=3, moe_intermediate_size=48, attention_k_eq_v=True
    ),
    "gemma4-experts-odd": _gemma4(
        **ODD, global_head_dim=24, enable_moe_block=True, num_experts=3, top_k_experts=1, moe_intermediate_size=100
    ),
    "gemma4-tokens": _gemma4(**TOKENS, hidden_size_per_layer_input=24),
    "gemma4-tokens-odd": _gemma4(
        **ODD, **TOKENS, hidden_size_per_layer_input=100, num_kv_shared_layers=1, tie_word_embeddings=False
    ),
    "gemma4-shared": _gemma4(
        num_hidden_layers=5,
        num_kv_shared_layers=2,
        use_double_wide_mlp=True,
        layer_types=[SLIDING, FULL, SLIDING, SLIDING, FULL],
        output_hidden_states=True,  # or the oracle skips rows, which it can only where there are inputs of each layer
    ),
    "gemma4-shared-odd": _gemma4(
        **ODD,
        attention_k_eq_v=True,
        global_head_dim=20,
        num_kv_shared_layers=1,
        rope_parameters=ROPES,
        output_hidden_states=True,
    ),
}
EXACT = ("gemma4-odd", "gemma4-keys", "gemma4-shared-odd", "gemma4-experts-odd", "gemma4-tokens", "gemma4-tokens-odd")


def make_gemma4(directory: Path, name: str, **changes: Any) -> Path:
    """Write config.json, random weights and a byte-level tokenizer; returns the directory."""
    config = {**CONFIGS[name], **changes}
    spec = ModelSpec.from_config(config)
    shapes = (
        head_tensors(spec)
        | token_tensors(spec)
        | {k: v for layer in spec.span for k, v in layer_tensors(spec, layer).items()}
    )
    generator, tensors = torch.Generator().manual_seed(0), {}
    for key, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        tensors[key] = 1 + 0.1 * noise if len(shape) == 1 else noise if "embed" in key else noise * shape[-1] ** -0.5
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(config))
    save_file(tensors, directory / "model.safetensors")
    make_tokenizer(directory)
    return directory
