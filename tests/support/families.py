"""Tiny config.json of every family, in the spellings in which people hold them. No torch here."""

from __future__ import annotations

from typing import Any

from support.oracles import TINY

QWEN2 = {**TINY, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}

CONFIGS: dict[str, dict[str, Any]] = {
    "qwen2": {**QWEN2, "rope_theta": 1e6, "rms_norm_eps": 1e-5, "tie_word_embeddings": True},
    "qwen2-windows": {**QWEN2, "use_sliding_window": True, "sliding_window": 40, "max_window_layers": 1},
    "qwen2-odd": {
        **QWEN2,
        "hidden_size": 100,
        "num_attention_heads": 5,
        "num_key_value_heads": 1,
        "intermediate_size": 344,
    },
}
EXACT = ("qwen2-windows", "qwen2-odd")  # one or two of each family, held to equal bits
