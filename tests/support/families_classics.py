"""Tiny config.json of the decoders from before Llama, in the spellings in which people hold them. No torch here."""

from __future__ import annotations

from typing import Any

TOKENS = {"bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 258, "vocab_size": 288}


def _gpt2(**changes: Any) -> dict[str, Any]:
    sizes = {"n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 2048, "n_ctx": 2048}
    return {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", **TOKENS, **sizes, **changes}


CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2": _gpt2(),
    "gpt2-odd": _gpt2(
        n_embd=100,
        n_head=5,
        n_inner=344,
        activation_function="relu",
        layer_norm_epsilon=1e-6,
        tie_word_embeddings=False,
    ),
    "gpt2-by-depth": _gpt2(
        scale_attn_by_inverse_layer_idx=True, reorder_and_upcast_attn=True, activation_function="gelu"
    ),
    "gpt2-unscaled": _gpt2(scale_attn_weights=False, n_inner=100),
}
EXACT = ("gpt2", "gpt2-odd", "gpt2-by-depth")
