"""Decoders from before Llama: LayerNorm, biases, an MLP without a gate, and positions that are learned, turned or fall off."""

from __future__ import annotations

from typing import Any

from swarm.engine.families.family import Family, Variant

PLAIN: dict[str, Any] = {  # fields of the row
    "centred_norms": True,
    "norm_bias": True,
    "gate": None,
    "qkv_bias": True,
    "output_bias": True,
    "mlp_bias": True,
}

GPT2 = Family(
    architecture="GPT2LMHeadModel",
    model_type="gpt2",
    also=("GPT2Model", "GPT2DoubleHeadsModel"),
    required={"add_cross_attention": False},
    optional_prefix="transformer.",
    embedding="transformer.wte",
    positions="transformer.wpe",
    final_norm="transformer.ln_f",
    layer="transformer.h.{layer}",
    attention_norm="ln_1",
    query_key_value="attn.c_attn",
    output="attn.c_proj",
    mlp_norm="ln_2",
    up="mlp.c_fc",
    down="mlp.c_proj",
    transposed=True,
    norm_eps="layer_norm_epsilon",
    rotary=False,
    activation="activation_function",
    scale_by_depth="scale_attn_by_inverse_layer_idx",
    inner_per_hidden=4,
    spellings={
        "n_embd": "hidden_size",
        "n_layer": "num_hidden_layers",
        "n_head": "num_attention_heads",
        "n_inner": "intermediate_size",
        "n_positions": "max_position_embeddings",
    },
    defaults={
        "layer_norm_epsilon": 1e-5,
        "max_position_embeddings": 1024,
        "activation_function": "gelu_new",
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "tie_word_embeddings": True,
    },
    variants=(Variant({"scale_attn_weights": False}, {"attention_scale": 1.0}),),
    **PLAIN,
)

GPT_NEOX = Family(
    architecture="GPTNeoXForCausalLM",
    model_type="gpt_neox",
    optional_prefix="gpt_neox.",
    embedding="gpt_neox.embed_in",
    final_norm="gpt_neox.final_layer_norm",
    head="embed_out",
    layer="gpt_neox.layers.{layer}",
    query_key_value="attention.query_key_value",
    grouped_by_key=True,
    output="attention.dense",
    up="mlp.dense_h_to_4h",
    down="mlp.dense_4h_to_h",
    parallel="use_parallel_residual",
    norm_eps="layer_norm_eps",
    spellings={"rotary_pct": "partial_rotary_factor", "rotary_emb_base": "rope_theta"},
    defaults={
        "layer_norm_eps": 1e-5,
        "max_position_embeddings": 2048,
        "hidden_act": "gelu",
        "attention_bias": True,
        "use_parallel_residual": True,
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.25,
        "tie_word_embeddings": False,
    },
    **{**PLAIN, "qkv_bias": "attention_bias", "output_bias": "attention_bias"},
)

OPT = Family(
    architecture="OPTForCausalLM",
    model_type="opt",
    also=("OPTModel",),
    optional_prefix="model.",
    embedding="model.decoder.embed_tokens",
    embedding_width="word_embed_proj_dim",
    embedding_projection="model.decoder.project_in",
    positions="model.decoder.embed_positions",
    position_offset=2,
    final_norm="model.decoder.final_layer_norm",
    head_projection="model.decoder.project_out",
    layer="model.decoder.layers.{layer}",
    attention_norm="self_attn_layer_norm",
    output="self_attn.out_proj",
    mlp_norm="final_layer_norm",
    up="fc1",
    down="fc2",
    norm_eps=1e-5,
    rotary=False,
    activation="activation_function",
    spellings={"ffn_dim": "intermediate_size"},
    defaults={
        "max_position_embeddings": 2048,
        "activation_function": "relu",
        "do_layer_norm_before": True,
        "_remove_final_layer_norm": False,
        "layer_norm_elementwise_affine": True,
        "enable_bias": True,
        "tie_word_embeddings": True,
    },
    variants=(
        Variant({"layer_norm_elementwise_affine": False}, {"norm_weight": False, "norm_bias": False}),
        Variant({"_remove_final_layer_norm": True}, {"final_norm": None}),
        Variant(
            {"do_layer_norm_before": False},
            {
                "attention_norm": None,
                "attention_sum_norm": "self_attn_layer_norm",
                "mlp_norm": None,
                "mlp_sum_norm": "final_layer_norm",
                "final_norm": None,
            },
        ),
    ),
    **{**PLAIN, "qkv_bias": "enable_bias", "output_bias": "enable_bias", "mlp_bias": "enable_bias"},
)
