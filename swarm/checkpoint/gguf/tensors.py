"""What GGUF files hold: blocks of numbers in the types of llama.cpp, in rows whose order a dialect knows."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from swarm.checkpoint.formats.layout import BadPart, Layout, Part, StoredBlocks
from swarm.checkpoint.gguf.blocks import BLOCKS, mxfp4_as_q8_0
from swarm.checkpoint.gguf.delta_order import BY_INPUT, BY_VALUE, DECAYS, ValueHeads, logarithms
from swarm.checkpoint.gguf.dialects import ADDED, Dialect
from swarm.checkpoint.gguf.keys import Keys
from swarm.checkpoint.gguf.model import GgufModel
from swarm.model.tensor_names import Shape

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
    value_heads: ValueHeads | None = None
    layers: int | None = None  # what lies behind so many guesses further tokens; None: nothing does

    @classmethod
    def of(cls, model: GgufModel) -> Ggml:
        """Raises ModelFault naming the file and the key."""
        dialect, keys = model.dialect, Keys(model)
        types = {name: file.entries[name].dtype for file in model.files.values() for name in file.entries}
        heads: dict[str, int] = {}
        if dialect.paired:
            count = keys.whole("attention.head_count", least=1)
            heads = {"attn_q": count, "attn_k": keys.whole("attention.head_count_kv", count, least=1)}
        guessing = keys.whole("nextn_predict_layers", 0)
        return cls(
            model.architecture,
            dialect,
            types,
            heads,
            keys.whole("expert_count", 0),
            ValueHeads.of(keys) if dialect.tiled else None,
            keys.whole("block_count", least=1) - guessing if guessing else None,
        )

    @property
    def order(self) -> Mapping[str, Any]:
        """What decides how the tensors are read."""
        order: dict[str, Any] = {"architecture": self.architecture, "heads": self.heads, "experts": self.experts}
        return order if self.value_heads is None else {**order, "value_heads": asdict(self.value_heads)}

    def has_use_for(self, stored: str) -> bool:
        """Whether a tensor belongs to the model itself."""
        layer = stored.split(".")[1] if stored.startswith("blk.") else ""
        return stored not in ADDED and not (self.layers is not None and layer.isdecimal() and int(layer) >= self.layers)

    def layout(self, name: str, shape: Shape, stored: Container[str]) -> Layout | None:
        found = self.dialect.stored(name)
        if found is None:
            return None
        own, expert = found
        heads = self.heads.get(own.split(".")[2], 0) if own.startswith("blk.") else 0
        kind = own.split(".")[2] if own.startswith("blk.") else ""
        added = self.dialect.one_added and own.endswith("norm.weight") and kind != "ssm_norm"
        by_value = self.value_heads if kind in BY_VALUE else None
        block, held = BLOCKS.get(self.types.get(own, "")), self.types.get(own, "")
        held = "Q8_0" if held == "MXFP4" else held  # which holds the same numbers

        def numbers(tensor: Tensor, shape: Shape) -> Tensor:
            return tensor if block is None else _in_slices(tensor, shape, *block)  # plain floats stay in the file

        def in_order(result: Tensor) -> Tensor:
            if by_value is not None:
                result = _grouped(result, own, kind, by_value)
            return _unpaired(result, own, heads) if heads else result

        def one_expert(tensor: Tensor) -> Tensor:
            if expert is None:
                return tensor
            if expert >= self.experts:
                raise BadPart(own, f"expert {expert} is wanted, but the file counts {self.experts}")
            return tensor.view(self.experts, -1)[expert]

        def dequantise(tensor: Tensor) -> Tensor:
            result = in_order(numbers(one_expert(tensor), shape).view(shape))
            return result.float() - 1 if added else result

        def blocks(tensor: Tensor) -> StoredBlocks | None:
            stored = one_expert(tensor).view(shape[0], -1)
            if kind == BY_INPUT and by_value is not None:
                return None  # its columns change places, and blocks are of several
            ordered = in_order(stored)
            widened = mxfp4_as_q8_0(ordered) if self.types[own] == "MXFP4" else ordered
            return None if widened is None else StoredBlocks(held, widened, shape[1])

        def rows(ids: Tensor, tensor: Tensor) -> Tensor:
            wanted = (len(ids), *shape[1:])
            return numbers(tensor.view(shape[0], -1).index_select(0, ids).flatten(), wanted).view(wanted)

        whole = [shape if expert is None else (self.experts, *shape)]
        if 1 in shape:  # which writers leave out
            whole.append(tuple(size for size in shape if size != 1))
        as_they_lie = len(shape) > 1 and not heads and expert is None and by_value is None
        part = Part(own, (*BLOCKS, *FLOATS), tuple(whole))
        in_blocks = block is not None and len(shape) == 2
        return Layout(
            (part,), dequantise, rows if as_they_lie else None, blocks=blocks if in_blocks else None, block_kind=held
        )


def _grouped(tensor: Tensor, name: str, kind: str, heads: ValueHeads) -> Tensor:
    """Value heads beside those of the same key head, as the config's model has them."""
    axis = 1 if kind == BY_INPUT else 0
    if tensor.shape[axis] != heads.count(kind):
        raise BadPart(name, f"{tensor.shape[axis]} rows are wanted; by the file's keys it has {heads.count(kind)}")
    if kind == DECAYS:
        tensor = torch.tensor(logarithms((-tensor.float()).flatten().tolist())).view(tensor.shape)
    return tensor.index_select(axis, torch.tensor(heads.order(kind)))


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
