"""The decoder, top-down: layers, attention, MLP, and the two ways in which rows pass through them.

Rows pass either as a chunk (computed together, at exactly that shape) or as decode rows (each for itself, the same bits
however many pass together): the numerics contract of docs/DESIGN.md. Knows nothing of files, owners or the network.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from swarm.engine.cache import SessionCache
from swarm.engine.linear import Linear
from swarm.engine.mlp import Experts, Mlp
from swarm.engine.numerics import Precision
from swarm.engine.rope import RopeTable, rotate
from swarm.engine.spec import LayerKind, ModelSpec
from swarm.span import LayerSpan

ACTIVATION_ALIGNMENT = 64  # inner widths are padded to it, so that no row ends in an activation kernel's scalar tail
SERIAL_ELEMENTS = 1 << 15  # torch splits larger elementwise calls among threads, at places that leave scalar tails

Activation = Callable[[Tensor], Tensor]
ACTIVATIONS: Mapping[str, Activation] = {
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu_pytorch_tanh": partial(functional.gelu, approximate="tanh"),
}


@dataclass(frozen=True, slots=True)
class Layer:
    """The weights of one layer; linear layers that read the same rows are fused. A norm that is not there is None."""

    kind: LayerKind
    attention_norm: Tensor | None  # [hidden]
    qkv: Linear  # hidden -> (heads + 2 * kv_heads) * head_dim
    query_norm: Tensor | None  # [head_dim], or [heads * head_dim] where all heads are normed together
    key_norm: Tensor | None
    output: Linear  # heads * head_dim -> hidden
    attention_end_norm: Tensor | None  # [hidden]
    mlp_norm: Tensor | None  # [hidden]
    mlp: Mlp | Experts
    mlp_end_norm: Tensor | None  # [hidden]

    @property
    def bytes(self) -> int:
        parts = (self.qkv, self.output, self.mlp)
        norms = (
            self.attention_norm,
            self.query_norm,
            self.key_norm,
            self.attention_end_norm,
            self.mlp_norm,
            self.mlp_end_norm,
        )
        return sum(part.bytes for part in parts) + sum(norm.nbytes for norm in norms if norm is not None)


class Pass(Protocol):
    """How rows go through the layers together: which linear kernels they take, and what each attends to."""

    angles: list[tuple[Tensor, Tensor]]  # for each rope cosines and sines, [rows, 1, head_dim]

    def linear(self, linear: Linear, x: Tensor) -> Tensor:
        """[rows, in] -> [rows, out]"""

    def activate(self, gate_up: Tensor) -> Tensor:
        """[rows, 2 * inner] -> [rows, inner]"""

    def attend(self, layer: int, window: int | None, queries: Tensor, keys_values: Tensor) -> Tensor:
        """Store [rows, 2, kv_heads, head_dim]; answer [rows, heads, head_dim] with [rows, heads * head_dim]."""


class Decoder:
    """The layers of a span. `chunk` and `decode` take and give rows of hidden states, [rows, hidden]."""

    def __init__(self, spec: ModelSpec, span: LayerSpan, layers: Sequence[Layer], precision: Precision) -> None:
        self.spec = spec
        self.span = span
        self.layers = layers
        self.precision = precision
        self.ropes = [RopeTable(rope, spec.head_dim, layers[0].qkv.device) for rope in spec.ropes]
        self.residual_scale = None if spec.residual_scale == 1.0 else spec.residual_scale
        self.windows = {layer.kind.window for layer in layers}

    def chunk(self, cache: SessionCache, x: Tensor) -> Tensor:
        """Rows at the cache's position onwards, computed together."""
        cache.grow(cache.position + x.shape[0])
        way = ChunkPass(self.spec, self.ropes, self.windows, cache, x.shape[0], self.precision.dtype)
        x = self._forward(x, cache.span, way)
        cache.position += x.shape[0]
        return x

    def decode(self, caches: Sequence[SessionCache], positions: Sequence[int], x: Tensor) -> Tensor:
        """Row i, of caches[i] at positions[i], each for itself; all over the same layers."""
        return self._forward(x, caches[0].span, DecodePass(self.spec, self.ropes, caches, positions))

    def _forward(self, x: Tensor, span: LayerSpan, way: Pass) -> Tensor:
        spec = self.spec
        rotated = spec.heads + spec.kv_heads  # queries and keys; values are not
        for index in span:
            layer = self.layers[index - self.span.start]

            h = x if layer.attention_norm is None else self._normed(x, layer.attention_norm)  # [rows, hidden]
            qkv = way.linear(layer.qkv, h).view(-1, rotated + spec.kv_heads, spec.head_dim)
            if layer.query_norm is not None and layer.key_norm is not None:
                qkv[:, : spec.heads] = self._normed_heads(qkv[:, : spec.heads], layer.query_norm)
                qkv[:, spec.heads : rotated] = self._normed_heads(qkv[:, spec.heads : rotated], layer.key_norm)
            qkv[:, :rotated] = rotate(qkv[:, :rotated], *way.angles[layer.kind.rope])
            queries = qkv[:, : spec.heads]  # [rows, heads, head_dim]
            # [rows, 2, kv_heads, head_dim]
            keys_values = qkv[:, spec.heads :].view(-1, 2, spec.kv_heads, spec.head_dim)
            h = way.attend(index, layer.kind.window, queries, keys_values)  # [rows, heads * head_dim]
            h = way.linear(layer.output, h)
            if layer.attention_end_norm is not None:
                h = self._normed(h, layer.attention_end_norm)
            x = x + (h if self.residual_scale is None else h * self.residual_scale)

            h = x if layer.mlp_norm is None else self._normed(x, layer.mlp_norm)
            h = layer.mlp.compute(way, h)
            if layer.mlp_end_norm is not None:
                h = self._normed(h, layer.mlp_end_norm)
            x = x + (h if self.residual_scale is None else h * self.residual_scale)
        return x

    def _normed(self, x: Tensor, weight: Tensor) -> Tensor:
        return functional.rms_norm(x, (self.spec.hidden,), weight, self.spec.norm_eps)

    def _normed_heads(self, x: Tensor, weight: Tensor) -> Tensor:
        """[rows, heads, head_dim], each head or all heads together by the weight's width."""
        rows = x.reshape(-1, weight.shape[0])
        return functional.rms_norm(rows, (weight.shape[0],), weight, self.spec.norm_eps).view(x.shape)


class ChunkPass:
    """Rows of one session at consecutive positions, computed together; each attends to all before it and itself."""

    def __init__(
        self,
        spec: ModelSpec,
        ropes: Sequence[RopeTable],
        windows: Collection[int | None],
        cache: SessionCache,
        rows: int,
        dtype: torch.dtype,
    ) -> None:
        self.cache = cache
        self.start, self.stop = cache.position, cache.position + rows
        self.angles = [rope.slice(self.start, self.stop) for rope in ropes]
        self.activation = ACTIVATIONS[spec.activation]
        self.groups = (spec.kv_heads, spec.heads // spec.kv_heads)
        self.attention, self.scale = attention_of(spec), spec.attention_scale
        device = self.angles[0][0].device
        self.seen = {window: self._seen(window, rows, dtype, device) for window in windows}

    def _seen(self, window: int | None, rows: int, dtype: torch.dtype, device: torch.device) -> tuple[int, Tensor]:
        """From which position on rows see what is before them, and a mask [heads / kv_heads * rows, positions]."""
        first = 0 if window is None else max(0, self.start + 1 - window)
        hidden = torch.full((rows, self.stop - first), -torch.inf, dtype=dtype, device=device)
        mask = hidden.triu(self.start + 1 - first)
        if window is not None:
            mask += hidden.tril(self.start - first - window)
        # A key's queries, of several heads, stand below each other
        return first, mask.repeat(self.groups[1], 1)

    def linear(self, linear: Linear, x: Tensor) -> Tensor:
        return linear.chunk(x)

    def activate(self, gate_up: Tensor) -> Tensor:
        gate, up = gate_up.chunk(2, -1)
        return self.activation(gate) * up

    def attend(self, layer: int, window: int | None, queries: Tensor, keys_values: Tensor) -> Tensor:
        first, mask = self.seen[window]
        valid = self.cache.layer(layer)[:, :, :, first : self.stop]  # [2, 1, kv_heads, positions, head_dim]
        valid[:, 0, :, self.start - first :] = keys_values.permute(1, 2, 0, 3)
        keys, values = valid.unbind()
        kv_heads, group = self.groups
        rows, head_dim = queries.shape[0], queries.shape[2]
        grouped = queries.view(rows, kv_heads, group, head_dim).permute(1, 2, 0, 3)
        grouped = grouped.reshape(1, kv_heads, group * rows, head_dim)
        answer = self.attention(grouped, keys, values, mask, scale=self.scale)
        return answer.view(kv_heads, group, rows, head_dim).permute(2, 0, 1, 3).reshape(rows, -1)


class DecodePass:
    """Rows of any sessions. Each attends alone, as one query row against its own session's cache."""

    def __init__(
        self, spec: ModelSpec, ropes: Sequence[RopeTable], caches: Sequence[SessionCache], positions: Sequence[int]
    ) -> None:
        self.rows = list(zip(caches, positions, strict=True))
        self.angles = [rope.gather(positions) for rope in ropes]
        self.activation = ACTIVATIONS[spec.activation]
        self.attention, self.scale = attention_of(spec), spec.attention_scale
        self.query_shape = (-1, 1, spec.kv_heads, spec.heads // spec.kv_heads, spec.head_dim)

    def linear(self, linear: Linear, x: Tensor) -> Tensor:
        return linear.decode(x)

    def activate(self, gate_up: Tensor) -> Tensor:
        return gated(gate_up, self.activation)

    def attend(self, layer: int, window: int | None, queries: Tensor, keys_values: Tensor) -> Tensor:
        valid = []  # for each row [2, 1, kv_heads, position + 1, head_dim]
        # All rows are stored before any attends: several may be of one session
        for (cache, position), own in zip(self.rows, keys_values.unbind(), strict=True):
            seen = cache.layer(layer)[:, :, :, : position + 1]
            seen[:, 0, :, position] = own
            valid.append(seen if window is None else seen[:, :, :, -window:])
        answers = []  # [1, kv_heads, heads / kv_heads, head_dim] each
        for row, seen in zip(queries.view(self.query_shape).unbind(), valid, strict=True):
            keys, values = seen.unbind()
            answers.append(self.attention(row, keys, values, None, scale=self.scale))
        return torch.cat(answers).flatten(1)


def attention_of(spec: ModelSpec) -> Callable[..., Tensor]:
    """(queries, keys, values, mask or None, scale=) -> answers, [1, heads, rows, head_dim] each."""
    if spec.attention_softcap is None:
        return functional.scaled_dot_product_attention
    return partial(capped_attention, softcap=spec.attention_softcap)


def capped_attention(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, *, scale: float | None, softcap: float
) -> Tensor:
    """Attention whose products of queries and keys are held between softcap and its negative before they are masked."""
    scale = queries.shape[-1] ** -0.5 if scale is None else scale
    # Copied, so that the capacity of a cache, which decides strides, decides no kernel
    products = torch.matmul(queries * scale, keys.contiguous().transpose(-1, -2)).float()
    products = torch.tanh(products / softcap) * softcap
    if mask is not None:
        products = products + mask
    return torch.matmul(products.softmax(-1).to(values.dtype), values.contiguous())


def gated(gate_up: Tensor, activation: Activation = functional.silu) -> Tensor:
    """activation(gate) * up, [rows, 2 * inner] -> [rows, inner]: the same bits for a row wherever it stands."""
    gate, up = gate_up.chunk(2, -1)
    if gate.device.type != "cpu":
        return activation(gate) * up
    at_once = max(1, (SERIAL_ELEMENTS - 1) // gate.shape[1])
    if gate.shape[0] <= at_once:
        return activation(gate) * up
    return torch.cat([activation(part) for part in torch.split(gate, at_once)]).mul_(up)
