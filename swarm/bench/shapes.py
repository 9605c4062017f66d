"""Model shapes that are measured with random weights."""

from __future__ import annotations

from typing import Any

from swarm.errors import UsageFault

_LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "hidden_act": "silu",
    "bos_token_id": 0,
    "eos_token_id": 1,
    "max_position_embeddings": 4096,
}

SHAPES: dict[str, dict[str, Any]] = {
    # Llama-3.2-1B, from its published config
    "llama-1b": _LLAMA
    | {
        "hidden_size": 2048,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "intermediate_size": 8192,
        "vocab_size": 128256,
        "tie_word_embeddings": True,
    },
    # as wide on the wire as llama-1b, with next to nothing to compute: what is left is the hop itself
    "hop": _LLAMA
    | {
        "hidden_size": 2048,
        "num_hidden_layers": 4,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "head_dim": 64,
        "intermediate_size": 64,
        "vocab_size": 512,
        "tie_word_embeddings": True,
    },
}


def shape(name: str) -> dict[str, Any]:
    """config.json of that shape. Raises UsageFault naming those that exist."""
    try:
        return SHAPES[name]
    except KeyError:
        raise UsageFault(f"no shape {name!r}: there are {', '.join(SHAPES)}") from None
