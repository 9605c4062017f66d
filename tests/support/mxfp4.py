"""gpt-oss with its experts in MXFP4, packed here from the definition (OCP Microscaling Formats 1.0, 2023, 5.3.3 and 6.3)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from support.oracles import make_oracle_model
from torch import Tensor

BLOCK = 32
SETTINGS: dict[str, Any] = {
    "quant_method": "mxfp4",
    "modules_to_not_convert": [
        "model.layers.*.self_attn",
        "model.layers.*.mlp.router",
        "model.embed_tokens",
        "lm_head",
    ],
}


def meant(codes: Tensor) -> Tensor:
    """What codes of four bits stand for: a sign, two bits of an exponent raised by 1, one of a mantissa."""
    sign, exponent, mantissa = 1 - 2.0 * (codes >> 3), (codes >> 1) & 3, (codes & 1).float()
    normal = torch.pow(2.0, exponent - 1) * (1 + mantissa / 2)
    return sign * torch.where(exponent > 0, normal, mantissa / 2)


def draw(shape: tuple[int, ...], generator: torch.Generator) -> tuple[dict[str, Tensor], Tensor]:
    """The parts of [experts, outputs, inputs], and what they mean, [experts, inputs, outputs]."""
    codes = torch.randint(0, 16, shape, generator=generator)
    scales = torch.randint(122, 126, (*shape[:2], shape[2] // BLOCK), generator=generator)
    packed = codes[..., 0::2] + 16 * codes[..., 1::2]
    blocks = packed.to(torch.uint8).view(*scales.shape, BLOCK // 2)
    values = meant(codes) * torch.pow(2.0, (scales - 127).repeat_interleave(BLOCK, -1))
    return {"blocks": blocks, "scales": scales.to(torch.uint8)}, values.transpose(1, 2).contiguous()


def make_mxfp4_twins(
    directory: Path, config: dict[str, Any], settings: dict[str, Any] = SETTINGS, kept: str = "none"
) -> tuple[Path, Path]:
    """The model with its experts in MXFP4, but for tensors whose names contain `kept`; and the same in plain floats."""
    plain = make_oracle_model(directory / "plain", config)
    quantised = directory / "quantised"
    quantised.mkdir()
    stored, meanings = {}, {}
    generator = torch.Generator().manual_seed(0)
    for name, tensor in load_file(plain / "model.safetensors").items():
        stored[name] = meanings[name] = tensor
        if tensor.dim() == 3 and kept not in name:
            experts, inputs, outputs = tensor.shape
            parts, meanings[name] = draw((experts, outputs, inputs), generator)
            del stored[name]
            stored |= {f"{name}_{end}": part for end, part in parts.items()}
    save_file(stored, quantised / "model.safetensors", {"format": "pt"})
    save_file(meanings, plain / "model.safetensors", {"format": "pt"})
    (quantised / "config.json").write_text(json.dumps({**config, "quantization_config": settings}))
    return quantised, plain
