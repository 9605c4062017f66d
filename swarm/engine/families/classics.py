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
