"""Whose keys and values rows see, as tables of addresses on a device: made once a call, for all layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from swarm.engine.caches.kv_cache import SessionCache
from swarm.kernels.structures import CAttends
from swarm.kernels.triton.attention import BLOCK, Seen
from swarm.kernels.triton.delta import Passages


@dataclass(slots=True)
class Sight:
    """Of some rows. `places`: keys, values and strides of heads of each layer's cache, int64 [layers, 3, rows]; None: a text,
    of which a row sees those before and after it."""

    positions: Tensor  # int64 [rows]
    last: int  # the greatest of them
    first_layer: int  # of the places, counted from the program's first
    places: Tensor | None
    biases: list[Tensor]
    passages: (
        Passages | None
    )  # rows of one session beside each other; states of all layers that keep one, [layers, 4, passages]
    first_state: int  # of these, counted from the program's first
    ranges: dict[int, tuple[Tensor, Tensor, int]]  # of each window: first and stop, int64 [rows], and blocks at most

    @classmethod
    def of_sessions(
        cls,
        first_layer: int,
        first_state: int,
        caches: Sequence[SessionCache],
        positions: Sequence[int],
        biases: list[Tensor],
        device: torch.device,
    ) -> Sight:
        numbers: dict[int, int] = {}
        tables: list[np.ndarray[tuple[int, int], np.dtype[np.int64]]] = []
        for cache in caches:
            if id(cache) not in numbers:
                numbers[id(cache)] = len(tables)
                tables.append(cache.places())
        rows = np.array([numbers[id(cache)] for cache in caches])
        starts = np.flatnonzero(np.diff(rows, prepend=-1))
        states = np.stack([caches[start].state_places(positions[start]) for start in map(int, starts)]).transpose(
            1, 2, 0
        )
        passages = Passages(
            first=torch.from_numpy(starts).to(device),
            count=torch.from_numpy(np.diff(starts, append=len(rows))).to(device),
            states=torch.from_numpy(np.ascontiguousarray(states)).to(device),
            of_rows=torch.from_numpy(np.cumsum(np.diff(rows, prepend=-1) != 0) - 1).to(device),
        )
        places = torch.from_numpy(np.ascontiguousarray(np.stack(tables)[rows].transpose(1, 2, 0)))
        where = torch.tensor(list(positions), dtype=torch.int64)
        held = places.to(device)
        return cls(where.to(device), max(positions), first_layer, held, biases, passages, first_state, {})

    @classmethod
    def of_text(cls, positions: range, biases: list[Tensor], device: torch.device) -> Sight:
        where = torch.arange(len(positions), dtype=torch.int64)
        return cls(where.to(device), len(positions) - 1, 0, None, biases, None, 0, {})

    def seen(self, attends: CAttends, x: Tensor, at: int) -> Seen:
        """`at`: the column of x from which on it holds keys, and values behind them, of a text."""
        first, stop, blocks = self._range(attends.window)
        biases = None
        if self.biases:
            biases = torch.tensor([each.data_ptr() for each in self.biases], dtype=torch.int64).to(x.device)
        if self.places is not None:
            keys, values, strides = self.places[attends.layer - self.first_layer]
            return Seen(keys, values, strides, first, stop, biases, True, 0, blocks)
        shape = attends.attention
        addresses = [x.data_ptr() + (at + part * shape.kv_heads * shape.head_dim) * x.itemsize for part in range(2)]
        keys, values, strides = (torch.full_like(first, each) for each in (*addresses, shape.head_dim))
        return Seen(keys, values, strides, first, stop, biases, False, x.stride(0), blocks)

    def passing(self, layer: int) -> Passages:
        """`layer`: its number among those of the program that keep a state."""
        assert self.passages is not None, "a text passes no states"
        return replace(self.passages, states=self.passages.states[layer - self.first_state])

    def _range(self, window: int) -> tuple[Tensor, Tensor, int]:
        found = self.ranges.get(window)
        if found is None:
            if self.places is not None:
                stop = self.positions + 1
                first = (stop - window).clamp(min=0) if window else torch.zeros_like(stop)
                most = min(window, self.last + 1) if window else self.last + 1
            else:
                count = self.last + 1
                reach = window // 2 if window else count
                first, stop = (self.positions - reach).clamp(min=0), (self.positions + reach + 1).clamp(max=count)
                most = min(2 * reach + 1, count)
            blocks = (most - 1) // BLOCK.value + 2  # wherever they begin
            found = self.ranges[window] = (first, stop, min(blocks, self.last // BLOCK.value + 1))
        return found
