"""Tiny config.json of gpt-oss, in the spellings in which people hold them. No torch here."""

from __future__ import annotations

from typing import Any

from support.oracles import TINY

YARN = {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False}
ODD = {"hidden_size": 100, "num_attention_heads": 5, "num_key_value_heads": 1, "intermediate_size": 344, "head_dim": 20}


def gpt_oss(**changes: Any) -> dict[str, Any]:
    """As openai/gpt-oss-20b states it, but for sizes."""
    stated = {
        "architectures": ["GptOssForCausalLM"],
        "model_type": "gpt_oss",
        "attention_bias": True,
        "experts_per_token": 3,
        "head_dim": 32,
        "initial_context_length": 64,
        "num_experts_per_tok": 3,
        "num_local_experts": 5,
        "rope_scaling": {**YARN, "original_max_position_embeddings": 64},
        "rope_theta": 150000,
        "sliding_window": 40,
        "swiglu_limit": 7.0,
    }
    return {**TINY, **stated, **changes}


CONFIGS: dict[str, dict[str, Any]] = {
    "gpt-oss": gpt_oss(layer_types=["sliding_attention", "full_attention", "sliding_attention"]),
    "gpt-oss-odd": gpt_oss(**ODD, num_experts_per_tok=1, swiglu_limit=0.5, swiglu_alpha=1.1),
    "gpt-oss-no-window": gpt_oss(
        layer_types=["full_attention"] * 3, num_attention_heads=8, num_key_value_heads=1, attention_bias=False
    ),
    "gpt-oss-short": {**TINY, "architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "head_dim": 16}
    | {"num_local_experts": 4, "num_hidden_layers": 2, "rope_theta": 1e4, "tie_word_embeddings": True},
}
EXACT = ("gpt-oss", "gpt-oss-odd")
