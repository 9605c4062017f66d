"""Tiny config.json of every encoder, in the spellings in which people hold them, and their random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TINY: dict[str, Any] = {
    "vocab_size": 288,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 300,
    "pad_token_id": 0,
}
ODD = {"hidden_size": 100, "num_attention_heads": 5, "intermediate_size": 344}


def _bert(architecture: str = "BertModel", **changes: Any) -> dict[str, Any]:
    return {**TINY, "architectures": [architecture], "model_type": "bert", **changes}


def _roberta(architecture: str = "RobertaModel", **changes: Any) -> dict[str, Any]:
    model_type = {"X": "xlm-roberta", "R": "roberta", "M": "mpnet"}[architecture[0]]
    ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    return {**TINY, **ids, "architectures": [architecture], "model_type": model_type, **changes}


def _distilbert(**changes: Any) -> dict[str, Any]:
    config = {
        "architectures": ["DistilBertForMaskedLM"],
        "model_type": "distilbert",
        "vocab_size": 288,
        "dim": 64,
        "hidden_dim": 160,
        "n_layers": 3,
        "n_heads": 4,
        "max_position_embeddings": 300,
        "pad_token_id": 0,
    }
    return {**config, **changes}


def _modernbert(architecture: str = "ModernBertModel", **changes: Any) -> dict[str, Any]:
    ids = {"bos_token_id": 1, "pad_token_id": 0, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    return {
        **TINY,
        **ids,
        "architectures": [architecture],
        "model_type": "modernbert",
        "num_hidden_layers": 4,
        **changes,
    }


CONFIGS: dict[str, dict[str, Any]] = {
    "bert": _bert(layer_norm_eps=1e-5),
    "bert-odd": _bert("BertForMaskedLM", **ODD, type_vocab_size=3, hidden_act="gelu_new"),
    "roberta": _roberta("RobertaForMaskedLM", type_vocab_size=1, layer_norm_eps=1e-5),
    "roberta-odd": _roberta("XLMRobertaModel", **ODD, pad_token_id=7),
    "mpnet": _roberta("MPNetModel", layer_norm_eps=1e-5),
    "mpnet-odd": _roberta("MPNetForMaskedLM", **ODD),
    "distilbert": _distilbert(),
    "modernbert": _modernbert("ModernBertForMaskedLM", local_attention=40, global_attn_every_n_layers=2),
    "modernbert-odd": _modernbert(
        **ODD,
        max_position_embeddings=1300,
        local_attention=31,
        attention_bias=True,
        mlp_bias=True,
        local_rope_theta=500.0,
    ),
    "distilbert-odd": _distilbert(dim=100, n_heads=5, hidden_dim=344, activation="relu"),
}
STATED = {*_roberta(), *_distilbert(), "cls_token_id", "sep_token_id"}  # what every config states


def make_encoder(directory: Path, config: dict[str, Any], seed: int = 0) -> Path:
    """Random weights by the names under which transformers saves them, and config.json as it was given."""
    import torch
    import transformers

    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    made = getattr(transformers, config["architectures"][0])
    model = made(transformers.AutoConfig.from_pretrained(directory))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if weight.dim() == 1:
                weight.add_(0.1 * noise)
            else:
                weight.copy_(noise if "embed" in name else noise * weight.shape[-1] ** -0.5)
    model.save_pretrained(directory)
    (directory / "newer.json").write_bytes((directory / "config.json").read_bytes())
    (directory / "config.json").write_text(json.dumps(config))
    return directory
