"""The Gemma line: four norms a layer, embeddings scaled by their width, windows in most layers."""

from __future__ import annotations

from dataclasses import replace

from swarm.model.families.family import COMMON, Family, Stack, TokenTables, Variant

GEMMA2 = Family(
    architecture="Gemma2ForCausalLM",
    model_type="gemma2",
    attention_end_norm="post_attention_layernorm",
    mlp_norm="pre_feedforward_layernorm",
    mlp_end_norm="post_feedforward_layernorm",
    norm_offset=1.0,
    mlp_bias=False,
    activation="hidden_activation",
    windows="pattern",
    attention_width="query_pre_attn_scalar",
    softcaps=True,
    embedding_by_width=True,
    defaults={
        **COMMON,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 8192,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "sliding_window_pattern": 2,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "tie_word_embeddings": True,
    },
)

GEMMA3 = replace(
    GEMMA2,
    architecture="Gemma3ForCausalLM",
    model_type="gemma3_text",
    query_norm="self_attn.q_norm",
    key_norm="self_attn.k_norm",
    local_theta="rope_local_base_freq",
    required={"use_bidirectional_attention": False},
    defaults={
        **GEMMA2.defaults,
        "vocab_size": 262208,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "max_position_embeddings": 131072,
        "rope_theta": 1e6,
        "rope_local_base_freq": 10000.0,
        "sliding_window_pattern": 6,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
    },
)

GEMMA3_WITH_IMAGES = replace(  # of which the text model is read
    GEMMA3,
    architecture="Gemma3ForConditionalGeneration",
    model_type="gemma3",
    embedding="language_model.model.embed_tokens",
    final_norm="language_model.model.norm",
    head="language_model.lm_head",
    layer="language_model.model.layers.{layer}",
)

_TOKENS = TokenTables(
    width="hidden_size_per_layer_input",
    vocab="vocab_size_per_layer_input",
    table="model.embed_tokens_per_layer",
    context="model.per_layer_model_projection",
    context_norm="model.per_layer_projection_norm",
    gate="per_layer_input_gate",
    output="per_layer_projection",
    end_norm="post_per_layer_input_norm",
)

GEMMA4 = Family(
    architecture="Gemma4ForCausalLM",
    model_type="gemma4_text",
    query_norm="self_attn.q_norm",
    key_norm="self_attn.k_norm",
    value_norm=True,
    attention_end_norm="post_attention_layernorm",
    mlp_norm="pre_feedforward_layernorm",
    mlp_end_norm="post_feedforward_layernorm",
    mlp_bias=False,
    token_tables=_TOKENS,
    layer_scale="layer_scalar",
    activation="hidden_activation",
    windows="pattern",
    last_full=True,
    full_head_dim="global_head_dim",
    keys_as_values="attention_k_eq_v",
    full_kv_heads="num_global_key_value_heads",
    sharing_layers="num_kv_shared_layers",
    sharing_doubles="use_double_wide_mlp",
    variants=(
        Variant(
            {"enable_moe_block": True},
            {
                "mlp_beside_experts": True,
                "beside_end_norm": "post_feedforward_layernorm_1",
                "router": "router.proj",
                "router_norm": "router.scale",
                "expert": "experts.{expert}",
                "expert_stack": Stack("experts.gate_up_proj", "experts.down_proj", always=True),
                "expert_scales": "router.per_expert_scale",
                "experts_norm": "pre_feedforward_layernorm_2",
                "experts_end_norm": "post_feedforward_layernorm_2",
                "shares_sum_to_one": True,
            },
        ),
        # Among images only, of which there are none here, or among all rows
        Variant({"use_bidirectional_attention": "all"}, {"required": {"use_bidirectional_attention": "vision"}}),
    ),
    spellings={"top_k_experts": "num_experts_per_tok"},
    attention_scale=1.0,
    softcaps=True,
    embedding_by_width=True,
    defaults={
        **COMMON,
        "vocab_size": 262144,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 30,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "global_head_dim": 512,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 131072,
        "rope_parameters": {
            "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        },
        "sliding_window": 512,
        "sliding_window_pattern": 6,
        "attention_k_eq_v": False,
        "num_kv_shared_layers": 0,
        "enable_moe_block": False,
        "hidden_size_per_layer_input": 256,
        "vocab_size_per_layer_input": 262144,
        "use_double_wide_mlp": False,
        "tie_word_embeddings": True,
    },
)

GEMMA4_WITH_IMAGES = replace(  # of which the text model is read
    GEMMA4,
    architecture="Gemma4ForConditionalGeneration",
    model_type="gemma4",
    embedding="model.language_model.embed_tokens",
    final_norm="model.language_model.norm",
    layer="model.language_model.layers.{layer}",
    token_tables=replace(
        _TOKENS,
        table="model.language_model.embed_tokens_per_layer",
        context="model.language_model.per_layer_model_projection",
        context_norm="model.language_model.per_layer_projection_norm",
    ),
)
