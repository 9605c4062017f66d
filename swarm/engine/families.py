"""Model families: each is a row of data that names its tensors and fills in what its config.json may omit.

Knows nothing of torch. A new family of decoders that differs by names and defaults only is a new row here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Windows = Literal["none", "all", "late", "pattern"]


@dataclass(frozen=True, slots=True)
class Family:
    """Where a family keeps its tensors, and how its config.json is to be read."""

    architecture: str  # as in the config's "architectures"
    model_type: str  # as in the config's "model_type"
    embedding: str = "model.embed_tokens"  # modules, each with .weight and perhaps .bias
    final_norm: str = "model.norm"
    head: str = "lm_head"
    layer: str = "model.layers.{layer}"
    attention_norm: str | None = "input_layernorm"  # within a layer; before attention
    query: str = "self_attn.q_proj"
    key: str = "self_attn.k_proj"
    value: str = "self_attn.v_proj"
    query_key_value: str | None = None  # instead of these three: one tensor that holds them below each other
    query_norm: str | None = None  # before rotation
    key_norm: str | None = None
    norm_whole_width: bool = False  # all heads of a row are normed together, not each for itself
    output: str = "self_attn.o_proj"
    attention_end_norm: str | None = None  # after attention, before its result is added
    mlp_norm: str | None = "post_attention_layernorm"
    gate: str = "mlp.gate_proj"
    up: str = "mlp.up_proj"
    gate_up: str | None = None  # instead of these two: one tensor that holds them below each other
    down: str = "mlp.down_proj"
    mlp_end_norm: str | None = None
    router: str | None = None  # instead of one MLP there are several, of which it chooses for each row
    expert: str = "mlp.experts.{expert}"  # one of them; below it are the three that follow
    expert_gate: str = "gate_proj"
    expert_up: str = "up_proj"
    expert_down: str = "down_proj"
    expert_inner: str = "moe_intermediate_size"  # the field
    shares_sum_to_one: bool | str = "norm_topk_prob"  # or the field that says so: of the chosen experts
    norm_offset: float = 0.0  # is added to the weights of all norms
    interleaved: bool = False  # rotated pairs stand beside each other, not half a head apart
    qkv_bias: bool | str = "attention_bias"  # whether there is one, or the field that says so
    output_bias: bool | str = "attention_bias"
    mlp_bias: bool | str = "mlp_bias"
    activation: str = "hidden_act"  # the field
    windows: Windows = "none"  # layers with a sliding window, where "layer_types" does not say
    local_theta: str | None = None  # the field with the rotary base of layers with a window, if it is their own
    attention_scale: str | None = None  # the field with what products of queries and keys are multiplied by
    attention_width: str | None = None  # the field that stands for head_dim in this
    softcaps: bool = False  # of attention and logits, where the config states them
    embedding_by_width: bool = False  # embedded rows are multiplied by the root of their width
    embedding_scale: str | None = None  # fields likewise
    residual_scale: str | None = None  # for what attention and MLP add
    logit_divisor: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)  # of config.json, where it omits a key


COMMON: Mapping[str, Any] = {
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "max_position_embeddings": 2048,
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
}

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

ROWS = (
    LLAMA,
    QWEN2,
    MISTRAL,
    QWEN3,
    GRANITE,
    OLMO2,
    PHI3,
    GLM4,
    GEMMA2,
    GEMMA3,
    GEMMA3_WITH_IMAGES,
    MIXTRAL,
    QWEN3_MOE,
)
FAMILIES: Mapping[str, Family] = {family.architecture: family for family in ROWS}
