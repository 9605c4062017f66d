"""What config.json would say of a model in GGUF, from the keys of its files. Knows nothing of torch or of text.

Sizes that nothing else bears out are checked where config.json's are, in the spec; what is read here is of the right kind,
or the error names file and key.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from swarm.checkpoint.gguf.delta_order import ValueHeads
from swarm.checkpoint.gguf.dialects import ROUTER
from swarm.checkpoint.gguf.file import Array, shortest
from swarm.checkpoint.gguf.keys import Keys
from swarm.checkpoint.gguf.model import GgufModel, open_model
from swarm.checkpoint.gguf.tokens import token_ids, vocabulary_size
from swarm.errors import ModelFault

HEAD = "output.weight"
MAX_ROPE_FACTORS = 1 << 16
GEMMA2_27B, GEMMA3_27B = 46, 62  # layers of the models whose heads are scaled by hidden_size / heads; no key says so
SAME = {  # fields of config.json that a key states as they are: sizes
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "max_position_embeddings": "context_length",
}
SCALES = {  # numbers, where they are stated
    "attention_multiplier": "attention.scale",
    "embedding_multiplier": "embedding_scale",
    "residual_multiplier": "residual_scale",
    "logits_scaling": "logit_scale",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "rope_local_base_freq": "rope.freq_base_swa",
}
UNREAD = {  # what such a key says would change what is computed, but nothing here does it
    "nextn_predict_layers": 0,
    "rope.dimension_sections": None,
    "expert_shared_count": 0,
    "expert_shared_feed_forward_length": 0,
    "rope.scale_linear": 1.0,
    "rope.scaling.yarn_ext_factor": 1.0,
    "rope.scaling.yarn_log_multiplier": 0.0,
}


READ_OF_TILED = ("nextn_predict_layers", "rope.dimension_sections", "expert_shared_feed_forward_length")


def gguf_config(model: Path) -> dict[str, Any]:
    """Raises ModelFault naming the file, and the key or tensor that is at fault."""
    return config_of(open_model(model))


def config_of(model: GgufModel) -> dict[str, Any]:
    """As config.json would say it. Raises ModelFault."""
    dialect, keys = model.dialect, Keys(model)
    experts = keys.whole("expert_count", 0)
    config: dict[str, Any] = {"architectures": [(dialect.with_experts if experts else None) or dialect.architecture]}
    for field, key in SAME.items():
        if field != "intermediate_size" or keys.has(key) or not experts:  # layers may hold nothing but experts
            config[field] = keys.whole(key, least=1)
    config["vocab_size"] = vocabulary_size(model)
    config["num_key_value_heads"] = keys.whole("attention.head_count_kv", config["num_attention_heads"])
    config["rms_norm_eps"] = keys.number("attention.layer_norm_rms_epsilon")
    config["rope_theta"] = keys.number("rope.freq_base", 10000.0)
    config["tie_word_embeddings"] = model.entry(HEAD) is None
    for field, key in SCALES.items():
        if keys.has(key):
            config[field] = keys.number(key)
    for key, harmless in UNREAD.items():
        if keys.has(key) and keys.values[keys.full(key)] != harmless and not (dialect.tiled and key in READ_OF_TILED):
            raise keys.fault(key, f"{keys.shown(key)} is not read")
    config |= _head_width(keys, config, dialect.partial)
    config |= _biases(model)
    if experts:
        config |= _experts(model, keys, config["num_hidden_layers"], experts)
    scaling = _rope_scaling(model, keys, config)
    if scaling:
        config["rope_scaling"] = scaling
    config |= OWN.get(model.architecture, _nothing)(keys, config)
    return config | token_ids(keys, config["vocab_size"])


def _head_width(keys: Keys, config: Mapping[str, Any], partial: bool) -> dict[str, Any]:
    rotated, even = keys.whole("rope.dimension_count", 0), config["hidden_size"] // config["num_attention_heads"]
    width = keys.whole("attention.key_length", 0) or (0 if partial else rotated) or even
    if keys.whole("attention.value_length", width) != width:
        raise keys.fault("attention.value_length", f"{keys.shown('attention.value_length')}, but keys have {width}")
    if not partial and rotated not in (0, width):
        raise keys.fault("rope.dimension_count", f"{rotated} of the {width} in a head: that is not read")
    share = {"partial_rotary_factor": rotated / width} if partial and rotated and width else {}
    return {"head_dim": width, **share}


def _biases(model: GgufModel) -> dict[str, Any]:
    return {
        "attention_bias": model.entry("blk.0.attn_q.bias") is not None,
        "mlp_bias": model.entry("blk.0.ffn_up.bias") is not None,
    }


def _experts(model: GgufModel, keys: Keys, layers: int, count: int) -> dict[str, Any]:
    """Layers without a router have one MLP."""
    if layers > len(model.file_of):
        raise keys.fault(SAME["num_hidden_layers"], f"{layers} are more than the file has tensors")
    dense = [layer for layer in range(layers) if model.entry(f"blk.{layer}.{ROUTER}.weight") is None]
    stated = {
        "num_local_experts": count,
        "num_experts_per_tok": keys.whole("expert_used_count"),
        "norm_topk_prob": True,  # as everybody who reads such files takes for granted
        "mlp_only_layers": dense,
    }
    if keys.has("expert_feed_forward_length"):
        stated["moe_intermediate_size"] = keys.whole("expert_feed_forward_length")
    return stated


def _rope_scaling(model: GgufModel, keys: Keys, config: Mapping[str, Any]) -> dict[str, Any] | None:
    context = config["max_position_embeddings"]
    original = keys.whole("rope.scaling.original_context_length", context)
    divisors = _factors(model, "rope_freqs.weight")
    if divisors:
        # What llama3's scaling comes to, pair by pair: it holds for every position
        return _divided(divisors, context) | {"attention_factor": 1.0}
    short = _factors(model, "rope_factors_short.weight")
    if short:
        return _divided(short, original) | _stretch(keys, context, original)
    kind = keys.text("rope.scaling.type") or "none"
    if kind == "none":
        return None
    if kind == "linear":
        return {"rope_type": "linear", "factor": keys.number("rope.scaling.factor")}
    if kind != "yarn":
        raise keys.fault("rope.scaling.type", f"{kind!r} is not read; known: none, linear, yarn")
    scaling = {
        "rope_type": "yarn",
        "factor": keys.number("rope.scaling.factor"),
        "original_max_position_embeddings": original,
    }
    turns = {"beta_fast": "yarn_beta_fast", "beta_slow": "yarn_beta_slow", "attention_factor": "yarn_attn_factor"}
    for field, key in turns.items():
        if keys.has(f"rope.scaling.{key}"):
            scaling[field] = keys.number(f"rope.scaling.{key}")
    return scaling


def _divided(divisors: list[float], original: int) -> dict[str, Any]:
    return {"rope_type": "longrope", "short_factor": divisors, "original_max_position_embeddings": original}


def _stretch(keys: Keys, context: int, original: int) -> dict[str, Any]:
    """The factor of cosines and sines, where it is not the one that follows from the contexts."""
    key = "rope.scaling.attn_factor"
    if not keys.has(key):
        return {}
    follows = math.sqrt(1 + math.log(context / original) / math.log(original)) if context > original > 1 else 1.0
    stated = keys.number(key)
    return {} if math.isclose(stated, follows, rel_tol=1e-6) else {"attention_factor": stated}


def _factors(model: GgufModel, tensor: str) -> list[float]:
    entry = model.entry(tensor)
    if entry is None:
        return []
    place = f"{model.files[model.file_of[tensor]].path}: tensor {tensor}"
    if entry.dtype != "F32" or len(entry.shape) != 1 or not 1 <= entry.shape[0] <= MAX_ROPE_FACTORS:
        raise ModelFault(f"{place}: {entry.dtype} {list(entry.shape)}; rope's factors are a row of F32")
    values = struct.unpack(f"<{entry.shape[0]}f", model.files[model.file_of[tensor]].view(tensor))
    if not all(math.isfinite(value) and value > 0 for value in values):
        raise ModelFault(f"{place}: its values are not all positive numbers")
    return [shortest(value) for value in values]


def _nothing(keys: Keys, config: Mapping[str, Any]) -> dict[str, Any]:
    return {}


def _window(keys: Keys) -> int | None:
    return keys.whole("attention.sliding_window", 0) or None


def _gemma2(keys: Keys, config: Mapping[str, Any]) -> dict[str, Any]:
    return _gemma(keys, config, GEMMA2_27B, keys.whole("attention.sliding_window", 4096) or None)


def _gemma3(keys: Keys, config: Mapping[str, Any]) -> dict[str, Any]:
    # Of Gemma 3 the whole model turns at this base where the file says nothing
    own = _gemma(keys, config, GEMMA3_27B, _window(keys))
    return own if keys.has("rope.freq_base") else own | {"rope_theta": 1e6}


def _gemma(keys: Keys, config: Mapping[str, Any], largest: int, window: int | None) -> dict[str, Any]:
    widest = config["num_hidden_layers"] == largest
    width = config["hidden_size"] // config["num_attention_heads"] if widest else config["head_dim"]
    return {"query_pre_attn_scalar": width, "sliding_window": window, **_pattern(keys)}


def _pattern(keys: Keys) -> dict[str, Any]:
    """Which layers have a window: every so many has none, or for each layer whether it has one."""
    key = "attention.sliding_window_pattern"
    value = keys.values.get(keys.full(key))
    if not isinstance(value, Array):
        return {"sliding_window_pattern": keys.whole(key)} if value is not None else {}
    return {"layer_types": ["sliding_attention" if each else "full_attention" for each in keys.each_layer(key, value)]}


def _qwen35(keys: Keys, config: Mapping[str, Any]) -> dict[str, Any]:
    """Sections of the rope tell apart places in images: in texts all are equal. What guesses further tokens is left out."""
    heads = ValueHeads.of(keys)
    own = {
        "num_hidden_layers": config["num_hidden_layers"] - keys.whole("nextn_predict_layers", 0),
        "full_attention_interval": keys.whole("full_attention_interval", least=1),
        "linear_conv_kernel_dim": keys.whole("ssm.conv_kernel", least=1),
        "linear_num_key_heads": heads.key_heads,
        "linear_num_value_heads": heads.key_heads * heads.values,
        "linear_key_head_dim": keys.whole("ssm.state_size", least=1),
        "linear_value_head_dim": heads.width,
    }
    if keys.has("expert_shared_feed_forward_length"):
        own["shared_expert_intermediate_size"] = keys.whole("expert_shared_feed_forward_length", least=1)
    return own


def _gpt_oss(keys: Keys, config: Mapping[str, Any]) -> dict[str, Any]:
    own = {"sliding_window": _window(keys), **_pattern(keys)}
    scaling = config.get("rope_scaling")  # whose bounds are not rounded to whole pairs; no key says so
    return {**own, "rope_scaling": {**scaling, "truncate": False}} if scaling else own


def _phi3(keys: Keys, config: Mapping[str, Any]) -> dict[str, Any]:
    original = keys.whole("rope.scaling.original_context_length", config["max_position_embeddings"])
    return {"sliding_window": _window(keys), "original_max_position_embeddings": original}


def _unwindowed(keys: Keys, config: Mapping[str, Any]) -> dict[str, Any]:
    return {"sliding_window": None}


def _granite(keys: Keys, config: Mapping[str, Any]) -> dict[str, Any]:
    if keys.flag("rope.scaling.finetuned") is False:
        raise keys.fault("rope.scaling.finetuned", "a model without rotary embedding is not read")
    return {}


def _olmo2(keys: Keys, config: Mapping[str, Any]) -> dict[str, Any]:
    if _window(keys):
        raise keys.fault("attention.sliding_window", "windows (OLMo 3) are not read")
    return {}


OWN: Mapping[
    str, Callable[[Keys, Mapping[str, Any]], dict[str, Any]]
] = {  # what only one architecture says, or leaves out
    "llama": _unwindowed,
    "qwen3moe": _unwindowed,
    "qwen35": _qwen35,
    "qwen35moe": _qwen35,
    "gpt-oss": _gpt_oss,
    "gemma2": _gemma2,
    "gemma3": _gemma3,
    "phi3": _phi3,
    "granite": _granite,
    "olmo2": _olmo2,
}
