"""What GGUF files hold: blocks of numbers in the types of llama.cpp, in rows whose order a dialect knows."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from swarm.engine.dialects import Dialect
from swarm.engine.formats.layout import BadPart, Layout, Part
from swarm.engine.gguf_config import Keys
from swarm.engine.gguf_model import GgufModel
from swarm.engine.naming import Shape

SLICE_BLOCKS = 1 << 16  # dequantised at once, so that what is needed besides the result stays small
FLOATS = ("F32", "F16", "BF16")


@dataclass(frozen=True, slots=True)
class Ggml:
    """The tensors of one model's GGUF files."""

    architecture: str  # as GGUF calls it
    dialect: Dialect
    types: Mapping[str, str]  # stored name -> type
    heads: Mapping[str, int]  # attn_q, attn_k -> heads; empty where rows lie as they are wanted
    experts: int = 0  # that lie on top of each other in one tensor

    @classmethod
    def of(cls, model: GgufModel) -> Ggml:
        """Raises ModelFault naming the file and the key."""
        dialect, keys = model.dialect, Keys(model)
        types = {name: file.entries[name].dtype for file in model.files.values() for name in file.entries}
        heads: dict[str, int] = {}
        if dialect.paired:
            count = keys.whole("attention.head_count", least=1)
            heads = {"attn_q": count, "attn_k": keys.whole("attention.head_count_kv", count, least=1)}
        return cls(model.architecture, dialect, types, heads, keys.whole("expert_count", 0))

    @property
    def order(self) -> Mapping[str, Any]:
        """What decides how the tensors are read."""
        return {"architecture": self.architecture, "heads": self.heads, "experts": self.experts}

    def layout(self, name: str, shape: Shape, stored: Container[str]) -> Layout | None:
        found = self.dialect.stored(name)
        if found is None:
            return None
        own, expert = found
        heads = self.heads.get(own.split(".")[2], 0) if own.startswith("blk.") else 0
        added = self.dialect.one_added and own.endswith("norm.weight")
        block = BLOCKS.get(self.types.get(own, ""))

        def numbers(tensor: Tensor, shape: Shape) -> Tensor:
            return tensor if block is None else _in_slices(tensor, shape, *block)  # plain floats stay in the file

        def dequantise(tensor: Tensor) -> Tensor:
            if expert is not None:
                if expert >= self.experts:
                    raise BadPart(own, f"expert {expert} is wanted, but the file counts {self.experts}")
                tensor = tensor.view(self.experts, -1)[expert]
            result = numbers(tensor, shape).view(shape)
            if heads:
                result = _unpaired(result, own, heads)
            return result.float() - 1 if added else result

        def rows(ids: Tensor, tensor: Tensor) -> Tensor:
            wanted = (len(ids), *shape[1:])
            return numbers(tensor.view(shape[0], -1).index_select(0, ids).flatten(), wanted).view(wanted)

        whole = shape if expert is None else (self.experts, *shape)
        as_they_lie = len(shape) > 1 and not heads and expert is None
        return Layout((Part(own, (*BLOCKS, *FLOATS), (whole,)),), dequantise, rows if as_they_lie else None)


def _unpaired(weight: Tensor, name: str, heads: int) -> Tensor:
    """llama.cpp turns neighbours, the config's model turns halves: row (head, i, half) becomes (head, half, i)."""
    shape = weight.shape
    if shape[0] % (2 * heads):
        raise BadPart(name, f"its {shape[0]} rows are not halves of {heads} heads")
    return weight.view(heads, -1, 2, *shape[1:]).transpose(1, 2).reshape(shape)


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
