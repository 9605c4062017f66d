"""The two ways in which rows pass through layers: as a chunk, or each row for itself.

A chunk is computed together, at exactly its shape; decode rows have the same bits however many pass together: the numerics
contract of docs/DESIGN.md. A pass brings the kernels and the sessions' caches; what is computed with them, layers say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from swarm.engine.caches.kv_cache import SessionCache
from swarm.engine.layers.activations import activated, activation_of, gated
from swarm.engine.layers.alibi import AlibiTable
from swarm.engine.layers.attention import Attention
from swarm.engine.layers.gated_delta import Delta
from swarm.engine.layers.linear import Linear
from swarm.engine.layers.rope import RopeTable, rotate
from swarm.model.spec import ModelSpec


class Pass(Protocol):
    """How rows go through the layers together: which linear kernels they take, and what each attends to."""

    def linear(self, linear: Linear, x: Tensor) -> Tensor:
        """[rows, in] -> [rows, out]"""

    def gated(self, gate_up: Tensor) -> Tensor:
        """[rows, 2 * inner] -> [rows, inner]"""

    def activated(self, x: Tensor) -> Tensor:
        """[rows, inner] -> [rows, inner]"""

    def each(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """[rows, width] -> [rows, width], entry by entry"""

    def softmax(self, x: Tensor) -> Tensor:
        """[1, width] -> [1, width]"""

    def largest(self, x: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The largest entries of [1, width] and their places, [1, count] each, largest first."""

    def rotate(self, heads: Tensor, rope: int) -> Tensor:
        """[rows, heads, head_dim], each turned by its row's position."""

    def attend(self, attention: Attention, layer: int, queries: Tensor, keys_values: Tensor) -> Tensor:
        """Store [rows, 2, kv_heads, head_dim], unless they are that layer's already; answer [rows, heads, head_dim] with
        [rows, heads * head_dim]."""

    def recur(self, delta: Delta, layer: int, projected: Tensor) -> Tensor:
        """Take [rows, width of the projection] through the layer's states; answer with [rows, value_heads * value_dim]."""


class Native:
    """What torch's kernels do alike for chunks and for decode rows."""

    angles: list[tuple[Tensor, Tensor]]  # for each rope cosines and sines, [rows, 1, head_dim]

    def softmax(self, x: Tensor) -> Tensor:
        return x.softmax(-1)

    def largest(self, x: Tensor, count: int) -> tuple[Tensor, Tensor]:
        values, places = x.topk(count)
        return values, places

    def rotate(self, heads: Tensor, rope: int) -> Tensor:
        return rotate(heads, *self.angles[rope])


class Together(Native):
    """Kernels for rows that are computed in one call, at exactly their shape."""

    def __init__(self, spec: ModelSpec) -> None:
        self.activation = activation_of(spec.activation, spec.activation_slope)

    def linear(self, linear: Linear, x: Tensor) -> Tensor:
        return linear.chunk(x)

    def gated(self, gate_up: Tensor) -> Tensor:
        gate, up = gate_up.chunk(2, -1)
        return self.activation(gate) * up

    def activated(self, x: Tensor) -> Tensor:
        return self.activation(x)

    def each(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return function(x)


class ChunkPass(Together):
    """Rows of one session at consecutive positions, computed together; each attends to all before it and itself."""

    def __init__(
        self,
        spec: ModelSpec,
        ropes: Sequence[RopeTable],
        cache: SessionCache,
        rows: int,
        dtype: torch.dtype,
        alibi: AlibiTable | None = None,
    ) -> None:
        super().__init__(spec)
        self.cache = cache
        self.start, self.stop = cache.position, cache.position + rows
        self.angles = [rope.slice(self.start, self.stop) for rope in ropes]
        self.dtype = dtype
        self._alibi = alibi
        self._seen: dict[tuple[int | None, int], tuple[int, Tensor]] = {}  # one for each kind of attention

    def seen(self, attention: Attention, device: torch.device) -> tuple[int, Tensor]:
        """From which position on rows see what is before them, and what is added to products of queries and keys.

        That is [heads / kv_heads * rows, positions], or [1, kv_heads, heads / kv_heads * rows, positions].
        """
        key = (attention.window, attention.heads // attention.kv_heads)
        if key not in self._seen:
            self._seen[key] = self._look(*key, device)
        return self._seen[key]

    def _look(self, window: int | None, group: int, device: torch.device) -> tuple[int, Tensor]:
        first = 0 if window is None else max(0, self.start + 1 - window)
        shape = (self.stop - self.start, self.stop - first)
        hidden = torch.full(shape, -torch.inf, dtype=self.dtype, device=device)
        mask = hidden.triu(self.start + 1 - first)
        if window is not None:
            mask += hidden.tril(self.start - first - window)
        # A key's queries, of several heads, stand below each other
        if self._alibi is None:
            return first, mask.repeat(group, 1)
        biases = self._alibi.rows(self.start, self.stop, first).add_(mask)
        return first, biases.view(1, -1, group * shape[0], shape[1])

    def recur(self, delta: Delta, layer: int, projected: Tensor) -> Tensor:
        return delta.chunk(projected, *self.cache.state(layer, self.start))

    def attend(self, attention: Attention, layer: int, queries: Tensor, keys_values: Tensor) -> Tensor:
        first, mask = self.seen(attention, queries.device)
        valid = self.cache.layer(layer)[:, :, :, first : self.stop]  # [2, 1, kv_heads, positions, head_dim]
        if attention.keys_of is None:
            valid[:, 0, :, self.start - first :] = keys_values.permute(1, 2, 0, 3)
        keys, values = valid.unbind()
        kv_heads, group = attention.kv_heads, attention.heads // attention.kv_heads
        rows, head_dim = queries.shape[0], queries.shape[2]
        grouped = queries.view(rows, kv_heads, group, head_dim).permute(1, 2, 0, 3)
        grouped = grouped.reshape(1, kv_heads, group * rows, head_dim)
        answer = attention.answer(grouped, keys, values, mask, scale=attention.scale)
        return answer.view(kv_heads, group, rows, head_dim).permute(2, 0, 1, 3).reshape(rows, -1)


class DecodePass(Native):
    """Rows of any sessions. Each attends alone, as one query row against its own session's cache."""

    def __init__(
        self,
        spec: ModelSpec,
        ropes: Sequence[RopeTable],
        caches: Sequence[SessionCache],
        positions: Sequence[int],
        alibi: AlibiTable | None = None,
    ) -> None:
        self.rows = list(zip(caches, positions, strict=True))
        self.angles = [rope.gather(positions) for rope in ropes]
        self.biases: list[Tensor | None] = [None] * len(positions)  # [heads, positions] each
        if alibi is not None:
            self.biases = [alibi.row(position) for position in positions]
        self.activation = activation_of(spec.activation, spec.activation_slope)

    def linear(self, linear: Linear, x: Tensor) -> Tensor:
        return linear.decode(x)

    def gated(self, gate_up: Tensor) -> Tensor:
        return gated(gate_up, self.activation)

    def activated(self, x: Tensor) -> Tensor:
        return activated(x, self.activation)

    def each(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return torch.cat([function(row) for row in torch.split(x, 1)])

    def recur(self, delta: Delta, layer: int, projected: Tensor) -> Tensor:
        # In their order: of several rows of one session each reads what the one before it wrote
        answers = []
        for (cache, position), row in zip(self.rows, torch.split(projected, 1), strict=True):
            answers.append(delta.step(row, *cache.state(layer, position)))
        return torch.cat(answers)

    def attend(self, attention: Attention, layer: int, queries: Tensor, keys_values: Tensor) -> Tensor:
        window = attention.window
        valid = []  # for each row [2, 1, kv_heads, position + 1, head_dim]
        # All rows are stored before any attends: several may be of one session
        for (cache, position), own in zip(self.rows, keys_values.unbind(), strict=True):
            seen = cache.layer(layer)[:, :, :, : position + 1]
            if attention.keys_of is None:
                seen[:, 0, :, position] = own
            valid.append(seen if window is None else seen[:, :, :, -window:])
        shape = (-1, 1, attention.kv_heads, attention.heads // attention.kv_heads, attention.head_dim)
        answers = []  # [1, kv_heads, heads / kv_heads, head_dim] each
        for row, seen, biases in zip(queries.view(shape).unbind(), valid, self.biases, strict=True):
            keys, values = seen.unbind()
            mask = None if biases is None else biases.view(*shape[1:4], -1)[..., -keys.shape[2] :]
            answers.append(attention.answer(row, keys, values, mask, scale=attention.scale))
        return torch.cat(answers).flatten(1)
