"""Decoders whose layers hold several MLPs, of which a router chooses for each row."""

from __future__ import annotations

from dataclasses import replace

from swarm.engine.families.dense import MISTRAL, QWEN2, QWEN3

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
