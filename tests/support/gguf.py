"""Models in GGUF, written with the format's own package: its names of tensors, and what llama.cpp's converters change in them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from gguf import GGUFWriter, quants
from safetensors.torch import load_file
from torch import Tensor

from swarm.model.spec import ModelSpec

ARCHITECTURES = {  # as config.json calls them -> as GGUF does
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "llama",
    "MixtralForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "Qwen3MoeForCausalLM": "qwen3moe",
    "GptOssForCausalLM": "gpt-oss",
    "Qwen3_5ForCausalLM": "qwen35",
    "Qwen3_5MoeForCausalLM": "qwen35moe",
    "Gemma2ForCausalLM": "gemma2",
    "Gemma3ForCausalLM": "gemma3",
    "Phi3ForCausalLM": "phi3",
    "GraniteForCausalLM": "granite",
    "Glm4ForCausalLM": "glm4",
    "Olmo2ForCausalLM": "olmo2",
}
PAIRED = ("llama", "granite")
Kinds = Callable[[str, Tensor], Type]


def plain(name: str, tensor: Tensor) -> Type:
    """Every tensor as it is."""
    return Type.F32


def quantised(values: np.ndarray, kind: Type) -> np.ndarray:
    """As the package does it; types that it only reads get any numbers, with small scales."""
    if kind in (Type.F32, Type.F16, Type.BF16, Type.Q8_0, Type.Q4_0, Type.MXFP4):
        return quants.quantize(values, kind)
    numbers, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = np.random.default_rng(values.size).integers(0, 256, (values.size // numbers, size), dtype=np.uint8)
    scale = np.frombuffer(np.float16(2e-4).tobytes(), np.uint8)
    for start in {Type.Q4_K: (0, 2), Type.Q6_K: (208,)}[kind]:
        blocks[:, start : start + 2] = scale
    return blocks.reshape(*values.shape[:-1], -1)


def paired(weight: Tensor, heads: int) -> Tensor:
    """Rows as llama.cpp keeps them: of each head first one of the lower half, then one of the upper, and so on."""
    size = weight.shape[0] // heads
    return weight[
        [head * size + half * size // 2 + i for head in range(heads) for i in range(size // 2) for half in (0, 1)]
    ]


def to_gguf(
    model: Path,
    path: Path,
    kinds: Kinds = plain,
    tokens: Callable[[GGUFWriter], None] | None = None,
    **split: Any,
) -> Path:
    """The model of a directory as a GGUF file; `tokens` writes the tokenizer's keys, `split` is for several files."""
    config = json.loads((model / "config.json").read_text())
    architecture = ARCHITECTURES[config["architectures"][0]]
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(path, architecture, **split)
    write_keys(writer, architecture, config)
    for name, tensor in _tensors(architecture, config, load_file(model / "model.safetensors")):
        kind = kinds(name, tensor)
        writer.add_tensor(name, quantised(tensor.float().contiguous().numpy(), kind), raw_dtype=kind)
    if tokens is not None:
        tokens(writer)
    finish(writer)
    return path


def finish(writer: GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_keys(writer: GGUFWriter, architecture: str, config: Mapping[str, Any]) -> None:
    """What config.json says, under the keys that llama.cpp's converters write for this architecture."""
    spec = ModelSpec.from_config(config)
    writer.add_vocab_size(spec.vocab)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(spec.hidden)
    writer.add_block_count(spec.layer_count)
    if architecture != "qwen35moe":  # of which no layer has an MLP of its own
        writer.add_feed_forward_length(spec.inner)
    writer.add_head_count(spec.heads)
    writer.add_head_count_kv(spec.kinds[0].kv_heads)
    writer.add_layer_norm_rms_eps(spec.norm_eps)
    writer.add_rope_freq_base(spec.ropes[0].theta)
    width = spec.kinds[0].head_dim
    if "head_dim" in config or architecture.startswith("gemma"):
        writer.add_key_length(width)
        writer.add_value_length(width)
    if delta := next((kind.delta for kind in spec.kinds if kind.delta), None):
        writer.add_ssm_conv_kernel(delta.taps)
        writer.add_ssm_state_size(delta.key_dim)
        writer.add_ssm_group_count(delta.key_heads)
        writer.add_ssm_time_step_rank(delta.value_heads)
        writer.add_ssm_inner_size(delta.values)
        writer.add_full_attention_interval(config["full_attention_interval"])
        writer.add_rope_dimension_sections([2, 1, 1, 0])
    if architecture in ("llama", "granite", "phi3", "glm4") or delta:
        writer.add_rope_dimension_count(int(width * spec.ropes[0].rotated))
    if spec.family.router:
        writer.add_expert_count(max(kind.experts for kind in spec.kinds))
        writer.add_expert_used_count(spec.experts_used)
        if architecture == "qwen35moe":
            writer.add_expert_shared_feed_forward_length(spec.shared_inner)
        if architecture in ("qwen3moe", "qwen35moe"):
            writer.add_expert_feed_forward_length(spec.expert_inner)
    _write_rope(writer, architecture, config, spec)
    if architecture in ("gemma2", "gemma3", "gpt-oss", "phi3"):
        writer.add_sliding_window(config.get("sliding_window") or (4096 if architecture == "gemma2" else 0))
    if "sliding_window_pattern" in config:
        writer.add_sliding_window_pattern([kind.window is not None for kind in spec.kinds])
    if spec.attention_softcap is not None:
        writer.add_attn_logit_softcapping(spec.attention_softcap)
    if spec.logit_softcap is not None:
        writer.add_final_logit_softcapping(spec.logit_softcap)
    if architecture == "granite":
        writer.add_attention_scale(config.get("attention_multiplier", 1.0))
        writer.add_embedding_scale(config.get("embedding_multiplier", 1.0))
        writer.add_residual_scale(config.get("residual_multiplier", 1.0))
        writer.add_logit_scale(config.get("logits_scaling", 1.0))
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])


def _write_rope(writer: GGUFWriter, architecture: str, config: Mapping[str, Any], spec: ModelSpec) -> None:
    rope, scaling = spec.ropes[0], config.get("rope_scaling") or {}
    if len(spec.ropes) > 1 and spec.ropes[1].theta != 10000:
        writer.add_rope_freq_base_swa(spec.ropes[1].theta)
    if rope.kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope.factor)
    if rope.kind == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope.factor)
        writer.add_rope_scaling_orig_ctx_len(rope.original_positions)
        if "attention_factor" in scaling:
            writer.add_rope_scaling_yarn_attn_factor(scaling["attention_factor"])
        if "beta_fast" in scaling:
            writer.add_rope_scaling_yarn_beta_fast(scaling["beta_fast"])
            writer.add_rope_scaling_yarn_beta_slow(scaling["beta_slow"])
    if rope.kind == "longrope":
        writer.add_rope_scaling_attn_factors(rope.attention_factor)
        writer.add_tensor("rope_factors_long.weight", np.array(scaling["long_factor"], dtype=np.float32))
        writer.add_tensor("rope_factors_short.weight", np.array(scaling["short_factor"], dtype=np.float32))
    if architecture == "phi3":
        writer.add_rope_scaling_orig_ctx_len(config.get("original_max_position_embeddings", 4096))
    if rope.kind == "llama3":
        writer.add_tensor("rope_freqs.weight", _llama3_divisors(config, scaling, spec.kinds[0].head_dim))


def _llama3_divisors(config: Mapping[str, Any], scaling: Mapping[str, Any], width: int) -> np.ndarray:
    """Of each pair's frequency: 1 for short waves, the factor for long ones, in between a blend of both frequencies."""
    waves = 2 * math.pi * config["rope_theta"] ** (torch.arange(0, width, 2).double() / width)
    turns = scaling["original_max_position_embeddings"] / waves
    low, high, factor = scaling["low_freq_factor"], scaling["high_freq_factor"], scaling["factor"]
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return (1 / (kept + (1 - kept) / factor)).float().numpy()


def _tensors(
    architecture: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> Iterator[tuple[str, Tensor]]:
    arch = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == architecture)
    names = gguf.get_tensor_name_map(arch, config["num_hidden_layers"])
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    stacks: dict[str, dict[int, Tensor]] = {}
    for name, tensor in _unstacked(tensors):
        if config.get("tie_word_embeddings", "gemma" in architecture) and name == "lm_head.weight":
            continue
        module, _, end = name.rpartition(".")
        before, _, after = module.partition(".experts.")
        expert, _, part = after.partition(".")
        if expert.isdigit():
            stacks.setdefault(f"{before}.experts.{part}", {})[int(expert)] = tensor
            continue
        count = heads.get(module.rpartition(".")[2], 0) if architecture in PAIRED else 0
        if count:
            tensor = paired(tensor, count)
        adds_one = architecture.startswith("gemma") or ("qwen35" in architecture and "linear_attn" not in name)
        if adds_one and name.endswith("norm.weight"):
            tensor = tensor + 1
        if ".linear_attn." in name:
            module, end, tensor = _delta(module, end, tensor, config)
        yield f"{_named(names, module)}{end and '.'}{end}", tensor
    for module, experts in stacks.items():
        merged = module.replace("block_sparse_moe.experts", "feed_forward.experts").removeprefix("model.")
        named = _named(names, merged if "feed_forward" in merged else module)
        yield f"{named}.weight", torch.stack([experts[number] for number in range(len(experts))])


def _delta(module: str, end: str, tensor: Tensor, config: Mapping[str, Any]) -> tuple[str, str, Tensor]:
    """Of layers that keep a state: value heads in the order of their places below key heads, and other names."""
    keys, heads = config["linear_num_key_heads"], config["linear_num_value_heads"]
    width, before = config["linear_value_head_dim"], 2 * keys * config["linear_key_head_dim"]

    def tiled(rows: Tensor, width: int) -> Tensor:
        split = rows.unflatten(0, (keys, heads // keys, width))
        return split.swapaxes(0, 1).flatten(0, 2)

    part = end if end in ("A_log", "dt_bias") else module.rpartition(".")[2]
    if part in ("in_proj_qkv", "conv1d"):
        tensor = torch.cat([tensor[:before], tiled(tensor[before:], width)]).squeeze()
    elif part == "in_proj_z":
        tensor = tiled(tensor, width)
    elif part == "out_proj":
        tensor = tiled(tensor.T, width).T
    elif part in ("in_proj_a", "in_proj_b", "A_log", "dt_bias"):
        tensor = tiled(tensor, 1)
    if part == "A_log":
        return f"{module}.A_log", "", -tensor.exp()
    return (f"{module}.dt_proj", "bias", tensor) if part == "dt_bias" else (module, end, tensor)


def _unstacked(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Stacks of experts whose gates and ups alternate, and that lie by inputs: each for itself and by outputs."""
    for name, tensor in tensors.items():
        module, _, end = name.rpartition(".")
        part, bias = end.removesuffix("_bias"), end.endswith("_bias")
        if not module.endswith(".experts") or part not in ("gate_up_proj", "down_proj"):
            yield (f"{name}.weight" if end == "sinks" else name), tensor
            continue
        tensor = tensor if bias else tensor.transpose(-1, -2)
        parts = {part: tensor} if part == "down_proj" else {"gate_proj": tensor[:, ::2], "up_proj": tensor[:, 1::2]}
        for own, each in parts.items():
            yield f"{module}.{own}.{'bias' if bias else 'weight'}", each


def _named(names: gguf.TensorNameMap, module: str) -> str:
    found = names.get_name(module)
    assert found is not None, module
    return found
