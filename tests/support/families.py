"""Tiny config.json of every family, in the spellings in which people hold them. No torch here."""

from __future__ import annotations

from typing import Any

from support import families_classics, families_gemma4, families_oss, families_recurrent
from support.oracles import TINY


def _tiny(architecture: str, model_type: str, **changes: Any) -> dict[str, Any]:
    return {**TINY, "architectures": [architecture], "model_type": model_type, **changes}


def _llama(**changes: Any) -> dict[str, Any]:
    return _tiny("LlamaForCausalLM", "llama", **changes)


def _qwen2(**changes: Any) -> dict[str, Any]:
    return _tiny("Qwen2ForCausalLM", "qwen2", **changes)


def _mistral(**changes: Any) -> dict[str, Any]:
    return _tiny("MistralForCausalLM", "mistral", **changes)


def _qwen3(**changes: Any) -> dict[str, Any]:
    return _tiny("Qwen3ForCausalLM", "qwen3", **changes)


def _granite(**changes: Any) -> dict[str, Any]:
    return _tiny("GraniteForCausalLM", "granite", **changes)


def _olmo2(**changes: Any) -> dict[str, Any]:
    return _tiny("Olmo2ForCausalLM", "olmo2", **changes)


def _phi3(**changes: Any) -> dict[str, Any]:
    return _tiny("Phi3ForCausalLM", "phi3", **changes)


def _glm4(**changes: Any) -> dict[str, Any]:
    return _tiny("Glm4ForCausalLM", "glm4", **changes)


def _gemma2(**changes: Any) -> dict[str, Any]:
    return _tiny("Gemma2ForCausalLM", "gemma2", **{"head_dim": 16, "query_pre_attn_scalar": 24, **changes})


def _gemma3(**changes: Any) -> dict[str, Any]:
    return _tiny("Gemma3ForCausalLM", "gemma3_text", **{"head_dim": 16, "sliding_window": 33, **changes})


def _mixtral(**changes: Any) -> dict[str, Any]:
    return _tiny("MixtralForCausalLM", "mixtral", **{"num_local_experts": 4, **changes})


def _qwen3_moe(**changes: Any) -> dict[str, Any]:
    experts = {"num_experts": 6, "num_experts_per_tok": 3, "moe_intermediate_size": 48}
    return _tiny("Qwen3MoeForCausalLM", "qwen3_moe", **{**experts, **changes})


ODD = {"hidden_size": 100, "num_attention_heads": 5, "num_key_value_heads": 1, "intermediate_size": 344}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
LONG = {"short_factor": [1.0 + 0.1 * i for i in range(8)], "long_factor": [1.0 + i for i in range(8)]}

CONFIGS: dict[str, dict[str, Any]] = {
    "rope-linear": _llama(rope_theta=1e5, rope_scaling={"type": "linear", "factor": 4.0}),
    "rope-dynamic": _llama(rope_scaling={"rope_type": "dynamic", "factor": 2.0}),
    "rope-yarn": _llama(rope_theta=1e4, rope_scaling=YARN),
    "rope-yarn-stated": _llama(rope_scaling={**YARN, "beta_fast": 8.0, "beta_slow": 2.0, "attention_factor": 1.25}),
    "rope-yarn-mscale": _qwen2(rope_scaling={**YARN, "mscale": 0.8, "mscale_all_dim": 1.2, "truncate": False}),
    "qwen2": _qwen2(rope_theta=1e6, rms_norm_eps=1e-5, tie_word_embeddings=True),
    "qwen2-windows": _qwen2(use_sliding_window=True, sliding_window=40, max_window_layers=1),
    "qwen2-odd": _qwen2(**ODD),
    "mistral": _mistral(sliding_window=37, rope_theta=1e6),
    "mistral-no-window": _mistral(sliding_window=None, head_dim=40),
    "mistral-odd": _mistral(**ODD, sliding_window=1),
    "qwen3": _qwen3(head_dim=32, attention_bias=True),
    "qwen3-odd": _qwen3(**ODD, head_dim=28, tie_word_embeddings=True),
    "granite": _granite(
        attention_multiplier=0.1, embedding_multiplier=3.0, residual_multiplier=0.22, logits_scaling=8.0, mlp_bias=True
    ),
    "granite-odd": _granite(**ODD, attention_bias=True, residual_multiplier=0.6, tie_word_embeddings=True),
    "olmo2": _olmo2(rope_theta=5e5),
    "olmo2-odd": _olmo2(**ODD, attention_bias=True),
    "phi3": _phi3(sliding_window=50),
    "phi3-odd": _phi3(**ODD, partial_rotary_factor=0.6, tie_word_embeddings=True),
    "phi3-long": _phi3(rope_scaling={"type": "longrope", **LONG}, original_max_position_embeddings=512),
    "glm4": _glm4(head_dim=32),
    "glm4-odd": _glm4(**ODD, head_dim=20, attention_bias=False, partial_rotary_factor=0.8),
    "gemma2": _gemma2(sliding_window=30, attn_logit_softcapping=2.0, final_logit_softcapping=5.0),
    "gemma2-odd": _gemma2(**ODD, head_dim=20, sliding_window=129, attention_bias=True),
    "gemma2-uncapped": _gemma2(attn_logit_softcapping=None, final_logit_softcapping=None, tie_word_embeddings=False),
    "gemma3": _gemma3(num_hidden_layers=7, rope_scaling={"rope_type": "linear", "factor": 8.0}),
    "gemma3-odd": _gemma3(**ODD, sliding_window_pattern=2, rope_local_base_freq=500.0, rope_theta=1e5),
    **families_gemma4.CONFIGS,
    "mixtral": _mixtral(sliding_window=60),
    "mixtral-odd": _mixtral(**ODD, num_experts_per_tok=1, num_local_experts=3),
    "qwen3-moe": _qwen3_moe(norm_topk_prob=True, mlp_only_layers=[1]),
    "qwen3-moe-odd": _qwen3_moe(**ODD, moe_intermediate_size=100, decoder_sparse_step=2),
    **families_oss.CONFIGS,
}
CONFIGS |= families_classics.CONFIGS | families_recurrent.CONFIGS
EXACT = (
    *families_classics.EXACT,
    "qwen2-windows",
    "qwen2-odd",
    "mistral-odd",
    "qwen3-odd",
    "granite",
    "olmo2-odd",
    "phi3",
    "phi3-odd",
    "glm4",
    "glm4-odd",
    "gemma2",
    "gemma2-odd",
    "gemma3-odd",
    *families_gemma4.EXACT,
    "mixtral",
    "qwen3-moe",
    "qwen3-moe-odd",
    *families_oss.EXACT,
    *families_recurrent.EXACT,
)
