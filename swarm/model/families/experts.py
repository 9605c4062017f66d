"""Decoders whose layers hold several MLPs, of which a router chooses for each row."""

from __future__ import annotations

from dataclasses import replace

from swarm.model.families.dense import MISTRAL, QWEN2, QWEN3
from swarm.model.families.family import COMMON, Family, Stack

MIXTRAL = replace(
    MISTRAL,
    architecture="MixtralForCausalLM",
    model_type="mixtral",
    router="block_sparse_moe.gate",
    expert="block_sparse_moe.experts.{expert}",
    expert_gate="w1",
    expert_up="w3",
    expert_down="w2",
    expert_inner="intermediate_size",
    expert_stack=Stack(router="mlp.gate"),
    shares_sum_to_one=True,
    defaults={
        **MISTRAL.defaults,
        "rms_norm_eps": 1e-5,
        "sliding_window": None,
        "rope_theta": 1e6,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
    },
)

QWEN3_MOE = replace(
    QWEN3,
    architecture="Qwen3MoeForCausalLM",
    model_type="qwen3_moe",
    router="mlp.gate",
    expert_stack=Stack(),
    windows="all",
    defaults={
        **QWEN2.defaults,
        "num_key_value_heads": 4,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 768,
        "norm_topk_prob": False,
    },
)

GPT_OSS = Family(
    architecture="GptOssForCausalLM",
    model_type="gpt_oss",
    sinks="self_attn.sinks",
    router="mlp.router",
    router_bias=True,
    expert_bias=True,
    expert_inner="intermediate_size",
    expert_stack=Stack(by_input=True, alternating=True, always=True),
    shares_sum_to_one=True,
    mlp_bias=False,
    activation_slope="swiglu_alpha",
    gate_limit="swiglu_limit",
    windows="pattern",
    defaults={
        **COMMON,
        "vocab_size": 201088,
        "hidden_size": 2880,
        "intermediate_size": 2880,
        "num_hidden_layers": 36,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 131072,
        "rope_theta": 150000.0,
        "rope_scaling": {
            "rope_type": "yarn",
            "factor": 32.0,
            "original_max_position_embeddings": 4096,
            "truncate": False,
        },
        "attention_bias": True,
        "sliding_window": 128,
        "sliding_window_pattern": 2,
        "num_local_experts": 128,
        "num_experts_per_tok": 4,
        "swiglu_alpha": 1.702,
        "swiglu_limit": 7.0,
    },
)
