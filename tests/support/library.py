"""Tiny models of families that the engine does not know, for `--backend transformers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.models import make_tokenizer
from support.oracles import TINY, make_oracle_model

GPT = {"vocab_size": 288, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 512, "eos_token_id": 257}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
LATENT = {"kv_lora_rank": 16, "q_lora_rank": 24, "qk_rope_head_dim": 8, "v_head_dim": 12, "qk_nope_head_dim": 16}

CONFIGS: dict[str, dict[str, Any]] = {
    "stablelm": TINY,
    "starcoder2": {**TINY, "sliding_window": 20},  # windows that rollbacks must reach behind
    "gpt_bigcode": GPT,  # learned positions, one head of keys and values
    "gptj": {**GPT, "rotary_dim": 8},  # layers hand on tuples
    "mpt": {"d_model": 64, "n_heads": 4, "n_layers": 3, "vocab_size": 288, "max_seq_len": 512},  # ALiBi
    "cohere": {**TINY, "logit_scale": 0.3},
    "olmoe": {**TINY, **EXPERTS},  # experts that a checkpoint holds one by one and the module together
    "deepseek_v2": {  # keys and values of different widths, kept as one latent row
        **TINY,
        **LATENT,
        "num_key_value_heads": 4,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 48,
        "first_k_dense_replace": 1,
    },
}


def make_library_model(directory: Path, name: str, tokenizer: bool = False, **changes: Any) -> Path:
    """Random weights of one of CONFIGS, as the library saves them."""
    make_oracle_model(directory, {**CONFIGS[name], "model_type": name, **changes})
    if tokenizer:
        make_tokenizer(directory)
    return directory
