"""Decoders in which most layers keep one state of all rows, by the gated delta rule, and some attend to the rows."""

from __future__ import annotations

from dataclasses import replace

from swarm.model.families.family import COMMON, Family, Stack

_SIZES = {
    "max_position_embeddings": 32768,
    "head_dim": 256,
    "partial_rotary_factor": 0.25,
    "full_attention_interval": 4,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
}

QWEN3_5 = Family(
    architecture="Qwen3_5ForCausalLM",
    model_type="qwen3_5_text",
    query_norm="self_attn.q_norm",
    key_norm="self_attn.k_norm",
    attention_gate=True,
    delta="linear_attn",
    norm_offset=1.0,
    mlp_bias=False,
    required={"attn_output_gate": True, "hidden_act": "silu"},  # which is that of the convolution too
    defaults={**COMMON, **_SIZES, "num_key_value_heads": 4},
)

QWEN3_5_WITH_IMAGES = replace(  # of which the text model is read
    QWEN3_5,
    architecture="Qwen3_5ForConditionalGeneration",
    model_type="qwen3_5",
    embedding="model.language_model.embed_tokens",
    final_norm="model.language_model.norm",
    layer="model.language_model.layers.{layer}",
)

QWEN3_NEXT = replace(
    QWEN3_5,
    architecture="Qwen3NextForCausalLM",
    model_type="qwen3_next",
    delta_inputs=("in_proj_qkvz", "in_proj_ba"),
    delta_by_key_head=True,
    router="mlp.gate",
    expert_stack=Stack(),
    shared_expert="mlp.shared_expert",
    defaults={
        **QWEN3_5.defaults,
        "num_key_value_heads": 2,
        "num_experts": 512,
        "num_experts_per_tok": 10,
        "moe_intermediate_size": 512,
        "shared_expert_intermediate_size": 512,
        "norm_topk_prob": True,
    },
)

QWEN3_5_MOE = replace(
    QWEN3_NEXT,
    architecture="Qwen3_5MoeForCausalLM",
    model_type="qwen3_5_moe_text",
    delta_inputs=QWEN3_5.delta_inputs,
    delta_by_key_head=False,
    shares_sum_to_one=True,
    defaults={
        **QWEN3_NEXT.defaults,
        "intermediate_size": 512,  # no layer has an MLP of its own
        "num_experts": 256,
        "num_experts_per_tok": 8,
    },
)

QWEN3_5_MOE_WITH_IMAGES = replace(  # of which the text model is read
    QWEN3_5_MOE,
    architecture="Qwen3_5MoeForConditionalGeneration",
    model_type="qwen3_5_moe",
    embedding=QWEN3_5_WITH_IMAGES.embedding,
    final_norm=QWEN3_5_WITH_IMAGES.final_norm,
    layer=QWEN3_5_WITH_IMAGES.layer,
)
