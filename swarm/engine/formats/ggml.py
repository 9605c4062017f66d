"""What GGUF files hold: names and row order of llama.cpp, and blocks of numbers in its types.

Unlike other formats this one knows the file's own keys: in which order the rows of queries and keys lie depends on the
architecture and the number of heads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from swarm.engine.formats.layout import BadPart, Layout, Part
from swarm.engine.naming import Shape

ARCHITECTURES = ("llama", "qwen2", "qwen3")  # whose tensors are stored as they are, but for the rows below
PAIRED = ("llama",)  # rotary halves of queries and keys stored as pairs
SLICE_BLOCKS = 1 << 16  # dequantised at once, so that what is needed besides the result stays small
OUTER = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
INNER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")


def stored_name(name: str) -> str | None:
    """What GGUF calls a tensor; None for one that it does not have."""
    module, _, end = name.rpartition(".")
    if module in OUTER:
        return f"{OUTER[module]}.{end}"
    found = _LAYER.fullmatch(module)
    return f"blk.{found[1]}.{INNER[found[2]]}.{end}" if found and found[2] in INNER else None


@dataclass(frozen=True, slots=True)
class Ggml:
    """The tensors of GGUF files: their types, and the heads of queries and keys where their rows lie in pairs."""

    types: Mapping[str, str]  # stored name -> type
    heads: Mapping[str, int]  # attn_q, attn_k -> heads; empty where rows lie as they are wanted

    def layout(self, name: str, shape: Shape, stored: Container[str]) -> Layout | None:
        own = stored_name(name)
        if own is None or own not in stored:
            return None
        heads = self.heads.get(own.split(".")[2], 0) if own.startswith("blk.") else 0

        def dequantise(tensor: Tensor) -> Tensor:
            block = BLOCKS.get(self.types[own])
            result = tensor if block is None else _in_slices(tensor, shape, *block)  # plain floats stay in the file
            if not heads:
                return result
            if shape[0] % (2 * heads):
                raise BadPart(own, f"its {shape[0]} rows are not halves of {heads} heads")
            # llama.cpp turns neighbours, the config's model turns halves: row (head, i, half) becomes (head, half, i)
            return result.view(heads, -1, 2, *shape[1:]).transpose(1, 2).reshape(shape)

        return Layout((Part(own, (*BLOCKS, "F32", "F16", "BF16"), (shape,)),), dequantise)


def _in_slices(data: Tensor, shape: Shape, size: int, read: Callable[[Tensor], Tensor]) -> Tensor:
    blocks, result = data.view(-1, size), torch.empty(shape)
    flat = result.view(blocks.shape[0], -1) if blocks.shape[0] else result
    for start in range(0, blocks.shape[0], SLICE_BLOCKS):
        flat[start : start + SLICE_BLOCKS] = read(blocks[start : start + SLICE_BLOCKS])
    return result


def _half(blocks: Tensor, start: int) -> Tensor:
    """The fp16 number at that byte of each block, as fp32 [blocks, 1]."""
    return blocks[:, start : start + 2].contiguous().view(torch.float16).float()


def _q8_0(blocks: Tensor) -> Tensor:
    """A scale, 32 int8."""
    return blocks[:, 2:].contiguous().view(torch.int8).float() * _half(blocks, 0)


def _q4_0(blocks: Tensor) -> Tensor:
    """A scale, 16 bytes: numbers 0-15 in the lower halves, 16-31 in the upper ones, each raised by 8."""
    packed = blocks[:, 2:]
    return (torch.cat([packed & 15, packed >> 4], 1).float() - 8) * _half(blocks, 0)


def _q4_k(blocks: Tensor) -> Tensor:
    """Scales of scales and of least values; both in 6 bits for 8 groups of 32; 128 bytes, groups in pairs by halves."""
    a, b, c = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scales = torch.cat([a & 63, (c & 15) | ((a >> 2) & 48)], 1)
    least = torch.cat([b & 63, (c >> 4) | ((b >> 2) & 48)], 1)
    packed = blocks[:, 16:].reshape(-1, 4, 1, 32)
    numbers = torch.cat([packed & 15, packed >> 4], 2).view(-1, 8, 32).float()
    scaled = numbers * (_half(blocks, 0) * scales.float()).unsqueeze(-1)
    return (scaled - (_half(blocks, 2) * least.float()).unsqueeze(-1)).flatten(1)


def _q6_k(blocks: Tensor) -> Tensor:
    """128 bytes of lower four bits, 64 of upper two, 16 int8 scales for groups of 16, their scale."""
    low = blocks[:, :128].reshape(-1, 2, 1, 64)
    low = torch.cat([low & 15, low >> 4], 2).view(-1, 8, 32)
    high = blocks[:, 128:192].reshape(-1, 2, 1, 32)
    high = torch.cat([(high >> shift) & 3 for shift in (0, 2, 4, 6)], 2).view(-1, 8, 32)
    numbers = (low | (high << 4)).float().view(-1, 16, 16) - 32
    scales = _half(blocks, 208) * blocks[:, 192:208].contiguous().view(torch.int8).float()
    return (numbers * scales.unsqueeze(-1)).flatten(1)


BLOCKS: Mapping[str, tuple[int, Callable[[Tensor], Tensor]]] = {  # type -> bytes of a block, and how it is read
    "Q4_0": (18, _q4_0),
    "Q8_0": (34, _q8_0),
    "Q4_K": (144, _q4_k),
    "Q6_K": (210, _q6_k),
}
