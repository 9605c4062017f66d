"""Decoders in the manner of Llama: one gated MLP a layer, rotary embedding, norms that scale by the root mean square."""

from __future__ import annotations

from swarm.model.families.family import COMMON, Family

LLAMA = Family(architecture="LlamaForCausalLM", model_type="llama", defaults=COMMON)

QWEN2 = Family(
    architecture="Qwen2ForCausalLM",
    model_type="qwen2",
    qkv_bias=True,
    output_bias=False,
    mlp_bias=False,
    windows="late",
    defaults={
        **COMMON,
        "max_position_embeddings": 32768,
        "use_sliding_window": False,
        "sliding_window": 4096,
        "max_window_layers": 28,
    },
)

MISTRAL = Family(
    architecture="MistralForCausalLM",
    model_type="mistral",
    qkv_bias=False,
    output_bias=False,
    mlp_bias=False,
    windows="all",
    defaults={**COMMON, "max_position_embeddings": 131072, "num_key_value_heads": 8, "sliding_window": 4096},
)

QWEN3 = Family(
    architecture="Qwen3ForCausalLM",
    model_type="qwen3",
    query_norm="self_attn.q_norm",
    key_norm="self_attn.k_norm",
    mlp_bias=False,
    windows="late",
    defaults={**QWEN2.defaults, "head_dim": 128},
)

GRANITE = Family(
    architecture="GraniteForCausalLM",
    model_type="granite",
    attention_scale="attention_multiplier",
    embedding_scale="embedding_multiplier",
    residual_scale="residual_multiplier",
    logit_divisor="logits_scaling",
    defaults={
        **COMMON,
        "attention_multiplier": 1.0,
        "embedding_multiplier": 1.0,
        "residual_multiplier": 1.0,
        "logits_scaling": 1.0,
    },
)

OLMO2 = Family(
    architecture="Olmo2ForCausalLM",
    model_type="olmo2",
    attention_norm=None,
    query_norm="self_attn.q_norm",
    key_norm="self_attn.k_norm",
    norm_whole_width=True,
    attention_end_norm="post_attention_layernorm",
    mlp_norm=None,
    mlp_end_norm="post_feedforward_layernorm",
    mlp_bias=False,
    defaults={**COMMON, "rms_norm_eps": 1e-5},
)

PHI3 = Family(
    architecture="Phi3ForCausalLM",
    model_type="phi3",
    query_key_value="self_attn.qkv_proj",
    gate_up="mlp.gate_up_proj",
    qkv_bias=False,
    output_bias=False,
    mlp_bias=False,
    windows="all",
    defaults={
        **COMMON,
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 4096,
        "original_max_position_embeddings": 4096,
    },
)

GLM4 = Family(
    architecture="Glm4ForCausalLM",
    model_type="glm4",
    attention_end_norm="post_self_attn_layernorm",
    gate_up="mlp.gate_up_proj",
    mlp_end_norm="post_mlp_layernorm",
    interleaved=True,
    output_bias=False,
    mlp_bias=False,
    defaults={
        **COMMON,
        "rms_norm_eps": 1.5625e-7,
        "max_position_embeddings": 131072,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "attention_bias": True,
        "partial_rotary_factor": 0.5,
    },
)
