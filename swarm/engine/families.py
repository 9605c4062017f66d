"""Model families: each is a row of data that names its tensors and fills in what its config.json may omit.

Knows nothing of torch. A new family of decoders that differs by names and defaults only is a new row here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Family:
    """Where a family keeps its tensors, and how its config.json is to be read."""

    architecture: str  # as in the config's "architectures"
    model_type: str  # as in the config's "model_type"
    embedding: str = "model.embed_tokens"  # modules, each with .weight and perhaps .bias
    final_norm: str = "model.norm"
    head: str = "lm_head"
    layer: str = "model.layers.{layer}"
    attention_norm: str = "input_layernorm"  # within a layer
    query: str = "self_attn.q_proj"
    key: str = "self_attn.k_proj"
    value: str = "self_attn.v_proj"
    output: str = "self_attn.o_proj"
    mlp_norm: str = "post_attention_layernorm"
    gate: str = "mlp.gate_proj"
    up: str = "mlp.up_proj"
    down: str = "mlp.down_proj"
    defaults: Mapping[str, Any] = field(default_factory=dict)  # of config.json, where it omits a key


LLAMA = Family(
    architecture="LlamaForCausalLM",
    model_type="llama",
    defaults={
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "max_position_embeddings": 2048,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
    },
)

FAMILIES: Mapping[str, Family] = {family.architecture: family for family in (LLAMA,)}
