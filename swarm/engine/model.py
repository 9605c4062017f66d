"""The decoder, top-down: layers, attention, MLP, and the two ways in which rows pass through them.

Rows pass either as a chunk (computed together, at exactly that shape) or as decode rows (each for itself, the same bits
however many pass together): the numerics contract of docs/DESIGN.md. Knows nothing of files, owners or the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from swarm.engine.cache import SessionCache
from swarm.engine.linear import Linear
from swarm.engine.numerics import Precision
from swarm.engine.rope import RopeTable, rotate
from swarm.engine.spec import ModelSpec
from swarm.span import LayerSpan

ACTIVATION_ALIGNMENT = 64  # inner widths are padded to it, so that no row ends in an activation kernel's scalar tail
SERIAL_ELEMENTS = 1 << 15  # torch splits larger elementwise calls among threads, at places that leave scalar tails


@dataclass(frozen=True, slots=True)
class Layer:
    """The weights of one layer; linear layers that read the same rows are fused."""

    attention_norm: Tensor  # [hidden]
    qkv: Linear  # hidden -> (heads + 2 * kv_heads) * head_dim
    output: Linear  # heads * head_dim -> hidden
    mlp_norm: Tensor  # [hidden]
    gate_up: Linear  # hidden -> 2 * inner, inner padded to ACTIVATION_ALIGNMENT
    down: Linear  # inner -> hidden

    @property
    def bytes(self) -> int:
        linears = (self.qkv, self.output, self.gate_up, self.down)
        return sum(linear.bytes for linear in linears) + self.attention_norm.nbytes + self.mlp_norm.nbytes


class Pass(Protocol):
    """How rows go through the layers together: which linear kernels they take, and what each attends to."""

    cos: Tensor  # [rows, 1, head_dim]
    sin: Tensor  # [rows, 1, head_dim]

    def linear(self, linear: Linear, x: Tensor) -> Tensor:
        """[rows, in] -> [rows, out]"""

    def activate(self, gate_up: Tensor) -> Tensor:
        """[rows, 2 * inner] -> [rows, inner]"""

    def attend(self, layer: int, queries: Tensor, keys_values: Tensor) -> Tensor:
        """Store [rows, 2, kv_heads, head_dim]; answer [rows, heads, head_dim] with [rows, heads * head_dim]."""


class Decoder:
    """The layers of a span. `chunk` and `decode` take and give rows of hidden states, [rows, hidden]."""

    def __init__(self, spec: ModelSpec, span: LayerSpan, layers: Sequence[Layer], precision: Precision) -> None:
        self.spec = spec
        self.span = span
        self.layers = layers
        self.precision = precision
        self.rope = RopeTable(spec.rope, spec.head_dim, layers[0].attention_norm.device)

    def chunk(self, cache: SessionCache, x: Tensor) -> Tensor:
        """Rows at the cache's position onwards, computed together."""
        cache.grow(cache.position + x.shape[0])
        x = self._forward(x, cache.span, ChunkPass(self.spec, self.rope, cache, x.shape[0], self.precision.dtype))
        cache.position += x.shape[0]
        return x

    def decode(self, caches: Sequence[SessionCache], positions: Sequence[int], x: Tensor) -> Tensor:
        """Row i, of caches[i] at positions[i], each for itself; all over the same layers."""
        return self._forward(x, caches[0].span, DecodePass(self.spec, self.rope, caches, positions))

    def _forward(self, x: Tensor, span: LayerSpan, way: Pass) -> Tensor:
        spec = self.spec
        rotated = spec.heads + spec.kv_heads  # queries and keys; values are not
        for index in span:
            layer = self.layers[index - self.span.start]

            h = functional.rms_norm(x, (spec.hidden,), layer.attention_norm, spec.norm_eps)  # [rows, hidden]
            qkv = way.linear(layer.qkv, h).view(-1, rotated + spec.kv_heads, spec.head_dim)
            qkv[:, :rotated] = rotate(qkv[:, :rotated], way.cos, way.sin)
            queries = qkv[:, : spec.heads]  # [rows, heads, head_dim]
            # [rows, 2, kv_heads, head_dim]
            keys_values = qkv[:, spec.heads :].view(-1, 2, spec.kv_heads, spec.head_dim)
            h = way.attend(index, queries, keys_values)  # [rows, heads * head_dim]
            x = x + way.linear(layer.output, h)

            h = functional.rms_norm(x, (spec.hidden,), layer.mlp_norm, spec.norm_eps)
            h = way.activate(way.linear(layer.gate_up, h))  # [rows, inner]
            x = x + way.linear(layer.down, h)
        return x


class ChunkPass:
    """Rows of one session at consecutive positions, computed together; each attends to all before it and itself."""

    def __init__(self, spec: ModelSpec, rope: RopeTable, cache: SessionCache, rows: int, dtype: torch.dtype) -> None:
        self.cache = cache
        self.start, self.stop = cache.position, cache.position + rows
        self.cos, self.sin = rope.slice(self.start, self.stop)
        self.groups = (spec.kv_heads, spec.heads // spec.kv_heads)
        # A key's queries, of several heads, stand below each other: [heads / kv_heads * rows, stop]
        later = torch.full((rows, self.stop), -torch.inf, dtype=dtype, device=self.cos.device).triu_(self.start + 1)
        self.mask = later.repeat(self.groups[1], 1)

    def linear(self, linear: Linear, x: Tensor) -> Tensor:
        return linear.chunk(x)

    def activate(self, gate_up: Tensor) -> Tensor:
        gate, up = gate_up.chunk(2, -1)
        return functional.silu(gate) * up

    def attend(self, layer: int, queries: Tensor, keys_values: Tensor) -> Tensor:
        valid = self.cache.layer(layer)[:, :, :, : self.stop]  # [2, 1, kv_heads, stop, head_dim]
        valid[:, 0, :, self.start :] = keys_values.permute(1, 2, 0, 3)
        keys, values = valid.unbind()
        kv_heads, group = self.groups
        rows, head_dim = queries.shape[0], queries.shape[2]
        grouped = queries.view(rows, kv_heads, group, head_dim).permute(1, 2, 0, 3)
        grouped = grouped.reshape(1, kv_heads, group * rows, head_dim)
        answer = functional.scaled_dot_product_attention(grouped, keys, values, attn_mask=self.mask)
        return answer.view(kv_heads, group, rows, head_dim).permute(2, 0, 1, 3).reshape(rows, -1)


class DecodePass:
    """Rows of any sessions. Each attends alone, as one query row against its own session's cache."""

    def __init__(
        self, spec: ModelSpec, rope: RopeTable, caches: Sequence[SessionCache], positions: Sequence[int]
    ) -> None:
        self.rows = list(zip(caches, positions, strict=True))
        self.cos, self.sin = rope.gather(positions)
        self.query_shape = (-1, 1, spec.kv_heads, spec.heads // spec.kv_heads, spec.head_dim)

    def linear(self, linear: Linear, x: Tensor) -> Tensor:
        return linear.decode(x)

    def activate(self, gate_up: Tensor) -> Tensor:
        return gated(gate_up)

    def attend(self, layer: int, queries: Tensor, keys_values: Tensor) -> Tensor:
        valid = []  # for each row [2, 1, kv_heads, position + 1, head_dim]
        # All rows are stored before any attends: several may be of one session
        for (cache, position), own in zip(self.rows, keys_values.unbind(), strict=True):
            seen = cache.layer(layer)[:, :, :, : position + 1]
            seen[:, 0, :, position] = own
            valid.append(seen)
        answers = []  # [1, kv_heads, heads / kv_heads, head_dim] each
        for row, seen in zip(queries.view(self.query_shape).unbind(), valid, strict=True):
            keys, values = seen.unbind()
            answers.append(functional.scaled_dot_product_attention(row, keys, values))
        return torch.cat(answers).flatten(1)


def gated(gate_up: Tensor) -> Tensor:
    """silu(gate) * up, [rows, 2 * inner] -> [rows, inner]: the same bits for a row wherever it stands."""
    gate, up = gate_up.chunk(2, -1)
    if gate.device.type != "cpu":
        return functional.silu(gate) * up
    at_once = max(1, (SERIAL_ELEMENTS - 1) // gate.shape[1])
    if gate.shape[0] <= at_once:
        return functional.silu(gate) * up
    return torch.cat([functional.silu(part) for part in torch.split(gate, at_once)]).mul_(up)
