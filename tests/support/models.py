"""Tiny random Llama checkpoints in the layout of Hugging Face, written without transformers, for everyone's tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from swarm.model.tensor_names import head_tensors, layer_tensors

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
BOS, EOS = 256, 257  # after the 256 bytes
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def make_model(
    directory: Path,
    *,
    seed: int = 0,
    dtype: str = "fp32",
    shards: int = 1,
    tokenizer: bool = False,
    **config: Any,
) -> Path:
    """Write config.json and the weights (and a byte-level tokenizer); returns the directory.

    `config` overrides what config.json says, such as `num_hidden_layers=6` or `tie_word_embeddings=False`; a key set to
    None is left out. With shards > 1 the layers are dealt over that many files with an index.
    """
    full = make_config(**config)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(full, indent=2))
    tensors = {name: tensor.to(DTYPES[dtype]) for name, tensor in make_tensors(full, seed).items()}
    if shards == 1:
        save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    else:
        _save_shards(directory, tensors, shards)
    if tokenizer:
        make_tokenizer(directory)
    return directory


def make_model_of(directory: Path, config: dict[str, Any], seed: int = 0) -> Path:
    """A model of any family with random weights and a byte-level tokenizer; returns the directory."""
    from swarm.model.spec import ModelSpec

    spec, generator = ModelSpec.from_config(config), torch.Generator().manual_seed(seed)
    shapes = {name: shape for layer in spec.span for name, shape in layer_tensors(spec, layer).items()}
    tensors = {}
    for name, shape in {**shapes, **head_tensors(spec)}.items():
        draws = torch.randn(shape, generator=generator)
        tensors[name] = draws * shape[-1] ** -0.5 if len(shape) > 1 and "embed" not in name else draws
        if len(shape) == 1:  # norms near one; logarithms of rates that let a state last for rows
            tensors[name] = draws - 2 if name.endswith("A_log") else 1 + 0.1 * draws
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    make_tokenizer(directory)
    return directory


def make_config(**changes: Any) -> dict[str, Any]:
    """What config.json says of a tiny Llama: 4 layers, hidden 64, 4 heads over 2, and a vocabulary of bytes."""
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": 288,
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "rope_theta": 10000.0,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "torch_dtype": "float32",
    } | changes
    return {key: value for key, value in config.items() if value is not None}


def make_tensors(config: dict[str, Any], seed: int = 0) -> dict[str, Tensor]:
    """Random weights by the names of Hugging Face, scaled so that logits differ and greedy choices are clear."""
    generator = torch.Generator().manual_seed(seed)
    hidden, inner, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    head_dim = config.get("head_dim") or hidden // heads
    queries, keys = heads * head_dim, config.get("num_key_value_heads", heads) * head_dim
    tensors: dict[str, Tensor] = {}

    def norm(name: str) -> None:
        tensors[name] = 1 + 0.1 * torch.randn(hidden, generator=generator)

    def linear(name: str, rows: int, columns: int, bias: bool) -> None:
        tensors[f"{name}.weight"] = torch.randn(rows, columns, generator=generator) * columns**-0.5
        if bias:
            tensors[f"{name}.bias"] = 0.1 * torch.randn(rows, generator=generator)

    tensors["model.embed_tokens.weight"] = torch.randn(config["vocab_size"], hidden, generator=generator)
    for layer in range(config["num_hidden_layers"]):
        prefix, biased = f"model.layers.{layer}", config.get("attention_bias", False)
        norm(f"{prefix}.input_layernorm.weight")
        linear(f"{prefix}.self_attn.q_proj", queries, hidden, biased)
        linear(f"{prefix}.self_attn.k_proj", keys, hidden, biased)
        linear(f"{prefix}.self_attn.v_proj", keys, hidden, biased)
        linear(f"{prefix}.self_attn.o_proj", hidden, queries, biased)
        norm(f"{prefix}.post_attention_layernorm.weight")
        biased = config.get("mlp_bias", False)
        linear(f"{prefix}.mlp.gate_proj", inner, hidden, biased)
        linear(f"{prefix}.mlp.up_proj", inner, hidden, biased)
        linear(f"{prefix}.mlp.down_proj", hidden, inner, biased)
    norm("model.norm.weight")
    if not config.get("tie_word_embeddings", False):
        linear("lm_head", config["vocab_size"], hidden, False)
    return tensors


def _save_shards(directory: Path, tensors: dict[str, Tensor], shards: int) -> None:
    names = list(tensors)
    size = -(-len(names) // shards)
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = names[shard * size : (shard + 1) * size]
        save_file({name: tensors[name] for name in part}, directory / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


def make_tokenizer(directory: Path) -> None:
    """A byte-level tokenizer without merges (ids 0-255, then the two special tokens) and a chat template."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    vocabulary = {char: index for index, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<s>", special=True), AddedToken("</s>", special=True)])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS)])
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": CHAT_TEMPLATE}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
