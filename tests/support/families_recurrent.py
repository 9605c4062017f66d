"""Tiny config.json of the families whose layers keep a state in the place of rows. No torch here."""

from __future__ import annotations

from typing import Any

from support.oracles import TINY

_STATES = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 48,
    "full_attention_interval": 2,
    "head_dim": 32,
}
_ODD = {"hidden_size": 100, "num_attention_heads": 5, "num_key_value_heads": 1, "intermediate_size": 344}
_ODD_STATES = {
    "linear_num_key_heads": 1,
    "linear_num_value_heads": 3,
    "linear_key_head_dim": 36,
    "linear_value_head_dim": 44,
    "linear_conv_kernel_dim": 3,
    "head_dim": 20,
}
_EXPERTS = {
    "num_experts": 6,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 48,
    "shared_expert_intermediate_size": 80,
}


def _qwen3_5(**changes: Any) -> dict[str, Any]:
    return {**TINY, "architectures": ["Qwen3_5ForCausalLM"], "model_type": "qwen3_5_text", **_STATES, **changes}


def _qwen3_next(**changes: Any) -> dict[str, Any]:
    config = {**TINY, "architectures": ["Qwen3NextForCausalLM"], "model_type": "qwen3_next"}
    return {**config, **_STATES, **_EXPERTS, **changes}


def _qwen3_5_moe(**changes: Any) -> dict[str, Any]:
    config = {**TINY, "architectures": ["Qwen3_5MoeForCausalLM"], "model_type": "qwen3_5_moe_text"}
    del config["intermediate_size"]  # which it does not have
    return {**config, **_STATES, **_EXPERTS, **changes}


CONFIGS: dict[str, dict[str, Any]] = {
    "qwen3-5": _qwen3_5(rope_theta=1e6),
    "qwen3-5-odd": _qwen3_5(
        **{**_ODD, **_ODD_STATES},
        attention_bias=True,
        partial_rotary_factor=0.5,
        layer_types=["linear_attention", "linear_attention", "full_attention"],
        tie_word_embeddings=True,
    ),
    "qwen3-next": _qwen3_next(mlp_only_layers=[1]),
    "qwen3-next-odd": _qwen3_next(
        **{**_ODD, **_ODD_STATES},
        moe_intermediate_size=100,
        shared_expert_intermediate_size=100,
        norm_topk_prob=False,
        decoder_sparse_step=2,
        layer_types=["full_attention", "linear_attention", "linear_attention"],
        rope_parameters={"rope_type": "default", "rope_theta": 5e4, "partial_rotary_factor": 0.4},
    ),
    "qwen3-5-moe": _qwen3_5_moe(
        rope_parameters={"rope_type": "default", "rope_theta": 1e5, "mrope_section": [2, 1, 1]}
    ),
}
EXACT = ("qwen3-5-odd", "qwen3-next", "qwen3-next-odd")
