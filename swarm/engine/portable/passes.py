"""How rows pass through layers by portable kernels. There is one way for prompts, answers and replays: each row for itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from swarm.engine.caches.kv_cache import SessionCache
from swarm.engine.layers.alibi import AlibiTable
from swarm.engine.layers.attention import Attention
from swarm.engine.layers.gated_delta import Delta
from swarm.engine.layers.linear import Linear
from swarm.engine.layers.relative_position import distance_biases
from swarm.engine.numerics import portable_kernels
from swarm.engine.portable.rope import PortableRopeTable
from swarm.errors import LocalFault
from swarm.kernels.library import CACHES, CAttention, CSeen
from swarm.model.spec import ModelSpec

ENTRY_BY_ENTRY: dict[Callable[[Tensor], Tensor], str] = {torch.sigmoid: "sigmoid", torch.tanh: "tanh"}
SEEN = np.dtype(  # CSeen, to be filled for many rows at once
    [
        ("keys", np.uint64),
        ("values", np.uint64),
        ("head_stride", np.int64),
        ("row_stride", np.int64),
        ("first", np.int64),
        ("stop", np.int64),
        ("biases", np.uint64),
    ]
)


def entries(kind: str, x: Tensor) -> Tensor:
    """fp32 [rows, width] -> [rows, width], entry by entry."""
    out = torch.empty(x.shape)
    portable_kernels().activation(x.data_ptr(), x.stride(0), x.shape[0], x.shape[1], kind, out.data_ptr(), gated=False)
    return out


class Rowwise:
    """Kernels of rows by themselves."""

    def __init__(self, spec: ModelSpec) -> None:
        self.kernels = portable_kernels()
        self.activation = spec.activation
        self.slope = spec.activation_slope or 0.0

    def linear(self, linear: Linear, x: Tensor) -> Tensor:
        return linear.decode(x)

    def gated(self, gate_up: Tensor) -> Tensor:
        return self._activated(gate_up, gate_up.shape[1] // 2, True)

    def activated(self, x: Tensor) -> Tensor:
        return self._activated(x, x.shape[1], False)

    def _activated(self, x: Tensor, width: int, gated: bool) -> Tensor:
        out = torch.empty(x.shape[0], width)
        self.kernels.activation(
            x.data_ptr(), x.stride(0), x.shape[0], width, self.activation, out.data_ptr(), gated=gated, slope=self.slope
        )
        return out

    def each(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return entries(ENTRY_BY_ENTRY[function], x.contiguous())

    def softmax(self, x: Tensor) -> Tensor:
        out = torch.empty(x.shape)
        self.kernels.softmax(x.data_ptr(), x.stride(0), x.shape[0], x.shape[1], out.data_ptr())
        return out

    def largest(self, x: Tensor, count: int) -> tuple[Tensor, Tensor]:
        values, places = torch.sort(x, dim=-1, descending=True, stable=True)  # of equal ones the first
        return values[:, :count], places[:, :count]

    def recur(self, delta: Delta, layer: int, projected: Tensor) -> Tensor:
        raise LocalFault("portable numerics have no gated delta rule")


class PortablePass(Rowwise):
    """Rows of any sessions, at any positions, each against its own session's cache."""

    def __init__(
        self,
        spec: ModelSpec,
        ropes: Sequence[PortableRopeTable],
        caches: Sequence[SessionCache],
        positions: Sequence[int],
        alibi: AlibiTable | None = None,
    ) -> None:
        super().__init__(spec)
        self.rows = list(zip(caches, positions, strict=True))
        self.together = len({id(cache) for cache in caches}) == 1  # positions of one session follow each other then
        self.turns = [rope.gather(positions) for rope in ropes]
        self._positions = np.array(positions, dtype=np.int64)
        self._alibi = alibi
        self._biases: dict[int, Tensor] = {}  # by row; the same in all layers

    def rotate(self, heads: Tensor, rope: int) -> Tensor:
        """[rows, heads, head_dim], turned in place."""
        cos, sin = self.turns[rope]
        rows, count, dim = heads.shape
        self.kernels.rotate(heads.data_ptr(), heads.stride(0), rows, count, dim, cos.data_ptr(), sin.data_ptr())
        return heads

    def attend(self, attention: Attention, layer: int, queries: Tensor, keys_values: Tensor) -> Tensor:
        if attention.keys_of is None:
            self._store(layer, keys_values)
        seen = np.zeros(len(self.rows), dtype=SEEN)
        seen["stop"] = self._positions + 1
        if attention.window is not None:
            seen["first"] = np.maximum(0, self._positions + 1 - attention.window)
        caches = [self.rows[0]] if self.together else self.rows
        for number, (cache, _) in enumerate(caches):
            held = cache.layer(layer)  # [2, 1, kv_heads, capacity, head_dim]
            place = slice(None) if self.together else number
            seen["keys"][place] = held.data_ptr()
            seen["values"][place] = held.data_ptr() + held.stride(0) * held.itemsize
            seen["head_stride"][place] = held.stride(2)
        seen["row_stride"] = attention.head_dim
        if self._alibi is not None:
            for number, (first, stop) in enumerate(zip(seen["first"], seen["stop"], strict=True)):
                seen["biases"][number] = self._bias(number, int(first), int(stop)).data_ptr()
        kind = "fp32" if held.dtype == torch.float32 else "bf16"
        return answers(attention, queries, seen, kind)

    def _store(self, layer: int, keys_values: Tensor) -> None:
        """All rows before any attends: several may be of one session."""
        if self.together:
            first, count = int(self._positions[0]), len(self.rows)
            self.rows[0][0].layer(layer)[:, 0, :, first : first + count] = keys_values.permute(1, 2, 0, 3)
            return
        for (cache, position), own in zip(self.rows, keys_values.unbind(), strict=True):
            cache.layer(layer)[:, 0, :, position] = own

    def _bias(self, number: int, first: int, stop: int) -> Tensor:
        if number not in self._biases:
            assert self._alibi is not None
            self._biases[number] = self._alibi.row(stop - 1)[:, first:stop].contiguous()
        return self._biases[number]


class PortableTextPass(Rowwise):
    """Rows of one text, each of which sees those before and after it. Nothing is cached."""

    def __init__(self, spec: ModelSpec, ropes: Sequence[PortableRopeTable], rows: int) -> None:
        super().__init__(spec)
        self.count = rows
        self.turns = [rope.gather(range(rows)) for rope in ropes]
        self._biases: Tensor | None = None  # [rows, heads, rows]

    rotate = PortablePass.rotate

    def attend(self, attention: Attention, layer: int, queries: Tensor, keys_values: Tensor) -> Tensor:
        keys_values = keys_values.contiguous()  # [rows, 2, kv_heads, head_dim]
        seen = np.zeros(self.count, dtype=SEEN)
        seen["keys"] = keys_values.data_ptr()
        seen["values"] = keys_values.data_ptr() + keys_values.stride(1) * keys_values.itemsize
        seen["head_stride"], seen["row_stride"] = attention.head_dim, keys_values.stride(0)
        places = np.arange(self.count)
        reach = self.count if attention.window is None else attention.window // 2
        seen["first"] = np.maximum(0, places - reach)
        seen["stop"] = np.minimum(self.count, places + reach + 1)
        if attention.distances is not None:
            if self._biases is None:
                self._biases = distance_biases(attention.distances, self.count).view(-1, self.count, self.count)
                self._biases = self._biases.transpose(0, 1).contiguous()
            if reach < self.count - 1:
                raise LocalFault("a window and a table of distances do not go together")
            seen["biases"] = [row.data_ptr() for row in self._biases]
        return answers(attention, queries, seen, "fp32")


def answers(
    attention: Attention, queries: Tensor, seen: np.ndarray[tuple[int], np.dtype[np.void]], cache: str
) -> Tensor:
    """Queries [rows, heads, head_dim] of whatever stride -> [rows, heads * head_dim]."""
    scale = attention.head_dim**-0.5 if attention.scale is None else attention.scale
    sinks = None if attention.sinks is None else attention.sinks.data_ptr()
    shape = CAttention(
        attention.heads,
        attention.kv_heads,
        attention.head_dim,
        CACHES.index(cache),
        scale,
        attention.softcap or 0.0,
        sinks,
    )
    out = torch.empty(queries.shape[0], attention.heads * attention.head_dim)
    rows = (CSeen * len(seen)).from_address(seen.ctypes.data)
    portable_kernels().attention(shape, queries.data_ptr(), queries.stride(0), rows, out.data_ptr())
    return out
