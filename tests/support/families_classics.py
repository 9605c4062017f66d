"""Tiny config.json of the decoders from before Llama, in the spellings in which people hold them. No torch here."""

from __future__ import annotations

from typing import Any

UNTIED: dict[str, Any] = {"tie_word_embeddings": False}  # greedy tokens then say more than the last one again
TOKENS = {"bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 258, "vocab_size": 288}


def _gpt2(**changes: Any) -> dict[str, Any]:
    sizes = {"n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 2048, "n_ctx": 2048}
    return {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", **TOKENS, **sizes, **changes}


def _gpt_neox(**changes: Any) -> dict[str, Any]:
    sizes = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 160}
    return {"architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", **TOKENS, **sizes, **changes}


def _opt(**changes: Any) -> dict[str, Any]:
    sizes = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "ffn_dim": 160}
    return {"architectures": ["OPTForCausalLM"], "model_type": "opt", **TOKENS, **sizes, **changes}


def _bloom(**changes: Any) -> dict[str, Any]:
    sizes = {"n_embed": 64, "n_layer": 3, "num_attention_heads": 4}
    return {"architectures": ["BloomForCausalLM"], "model_type": "bloom", **TOKENS, **sizes, **changes}


def _falcon(**changes: Any) -> dict[str, Any]:
    sizes = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
    return {"architectures": ["FalconForCausalLM"], "model_type": "falcon", **TOKENS, **sizes, **changes}


CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2": _gpt2(),
    "gpt2-odd": _gpt2(
        n_embd=100,
        n_head=5,
        n_inner=344,
        activation_function="relu",
        layer_norm_epsilon=1e-6,
        **UNTIED,
    ),
    "gpt2-by-depth": _gpt2(
        **UNTIED, scale_attn_by_inverse_layer_idx=True, reorder_and_upcast_attn=True, activation_function="gelu"
    ),
    "gpt2-unscaled": _gpt2(scale_attn_weights=False, n_inner=100),
    "gpt-neox": _gpt_neox(rotary_pct=0.25, rotary_emb_base=10000),
    "gpt-neox-odd": _gpt_neox(
        hidden_size=100, num_attention_heads=5, intermediate_size=344, rotary_pct=0.5, use_parallel_residual=False
    ),
    "gpt-neox-unbiased": _gpt_neox(
        rope_parameters={"rope_theta": 5e4, "partial_rotary_factor": 1.0, "rope_type": "linear", "factor": 2.0},
        attention_bias=False,
        hidden_act="gelu_fast",
        tie_word_embeddings=True,
    ),
    "opt": _opt(max_position_embeddings=1024),
    "opt-odd": _opt(
        **UNTIED, hidden_size=100, num_attention_heads=5, ffn_dim=344, activation_function="gelu", enable_bias=False
    ),
    "opt-norms-of-sums": _opt(do_layer_norm_before=False, word_embed_proj_dim=48),
    "opt-plain-norms": _opt(layer_norm_elementwise_affine=False, word_embed_proj_dim=100, **UNTIED),
    "opt-no-final-norm": _opt(**UNTIED, _remove_final_layer_norm=True),
    "bloom": _bloom(seq_length=2048),
    "bloom-odd": _bloom(n_embed=100, num_attention_heads=5, layer_norm_epsilon=1e-6, **UNTIED),
    "bloom-many-heads": _bloom(**UNTIED, n_embed=96, num_attention_heads=12),
    "falcon": _falcon(),
    "falcon-odd": _falcon(
        **UNTIED,
        hidden_size=100,
        num_attention_heads=5,
        multi_query=False,
        bias=True,
        ffn_hidden_size=344,
        rope_theta=5e5,
    ),
    "falcon-groups": _falcon(**UNTIED, new_decoder_architecture=True, num_kv_heads=2, num_attention_heads=8),
    "falcon-groups-one-norm": _falcon(
        new_decoder_architecture=True, num_kv_heads=2, num_ln_in_parallel_attn=1, **UNTIED
    ),
    "falcon-alibi": _falcon(
        **UNTIED, alibi=True, multi_query=False, parallel_attn=False, bias=True, hidden_size=96, num_attention_heads=6
    ),
    "falcon-alibi-one-key": _falcon(**UNTIED, alibi=True, activation="relu"),
}
EXACT = (
    "gpt2",
    "gpt2-odd",
    "gpt2-by-depth",
    "gpt-neox",
    "gpt-neox-odd",
    "opt-odd",
    "opt-norms-of-sums",
    "bloom",
    "bloom-odd",
    "falcon",
    "falcon-groups",
    "falcon-alibi",
)

# What configs of well-known models say of sizes and layout, and how many parameters these are known to have
PUBLISHED: dict[str, tuple[dict[str, Any], int]] = {
    "gpt2": (
        {"architectures": ["GPT2LMHeadModel"], "n_embd": 768, "n_head": 12, "n_layer": 12, "vocab_size": 50257},
        124_439_808,
    ),
    "pythia-70m": (
        _gpt_neox(
            hidden_size=512, num_hidden_layers=6, num_attention_heads=8, intermediate_size=2048, vocab_size=50304
        ),
        70_426_624,
    ),
    "opt-125m": (
        _opt(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, ffn_dim=3072, vocab_size=50272),
        125_239_296,
    ),
    "opt-350m": (
        _opt(
            hidden_size=1024,
            num_hidden_layers=24,
            num_attention_heads=16,
            ffn_dim=4096,
            vocab_size=50272,
            do_layer_norm_before=False,
            word_embed_proj_dim=512,
        ),
        331_196_416,
    ),
    "bloom-560m": (
        _bloom(n_embed=1024, n_layer=24, num_attention_heads=16, n_inner=None, vocab_size=250880),
        559_214_592,
    ),
    "falcon-7b": (
        _falcon(hidden_size=4544, num_hidden_layers=32, num_attention_heads=71, vocab_size=65024, multi_query=True),
        6_921_720_704,
    ),
    "falcon-40b": (
        _falcon(
            hidden_size=8192,
            num_hidden_layers=60,
            num_attention_heads=128,
            num_kv_heads=8,
            vocab_size=65024,
            new_decoder_architecture=True,
        ),
        41_303_293_952,
    ),
    "falcon-rw-1b": (
        _falcon(
            hidden_size=2048,
            num_hidden_layers=24,
            num_attention_heads=32,
            vocab_size=50304,
            alibi=True,
            bias=True,
            multi_query=False,
            parallel_attn=False,
        ),
        1_311_625_216,
    ),
}
