"""Keys and values of sessions: reserved when a session opens or is extended, allocated in pages as it grows, in one byte budget.

What does not fit is refused before it is computed. Knows nothing of what is attended to or by whom.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from swarm.engine.caches.budget import Budget, Reservation
from swarm.engine.caches.recurrent_state import Memory, States, StateShape, states_of
from swarm.errors import LocalFault, UsageFault
from swarm.span import LayerSpan

PAGE_ROWS = 64
TILE_ROWS = 16  # within which the portable kernels keep keys channel by channel, so that they are copied together


def pages_of(rows: int) -> int:
    """Rows rounded up to whole pages."""
    return -(-rows // PAGE_ROWS) * PAGE_ROWS


def tiles_of(rows: int) -> int:
    """Rows rounded up to whole tiles."""
    return -(-rows // TILE_ROWS) * TILE_ROWS


class CachePool(Budget):
    """The byte budget that the sessions of one stage share."""

    def __init__(
        self,
        span: LayerSpan,
        shapes: Sequence[tuple[int, int]],
        dtype: torch.dtype,
        device: torch.device,
        budget: int,
        max_positions: int,
        states: Sequence[StateShape | None] = (),
        any_cut: bool = False,
        rows_dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(span, budget, max_positions)
        self.states = states or [None] * len(span)  # of each layer; None: it keeps rows
        self.any_cut = any_cut  # rows have the same bits however they are cut into calls
        self.shapes = (
            shapes  # of each layer kv_heads, and the numbers that one takes: head_dim, and the bytes of its step
        )
        self.dtype = dtype  # of keys and values
        self.rows_dtype = rows_dtype or dtype  # of rows between layers, which states keep some of
        self.device = device

    def row_bytes(self, span: LayerSpan) -> int:
        """What one row takes in these layers."""
        shapes = self.shapes[span.start - self.span.start : span.stop - self.span.start]
        return sum(2 * kv_heads * width for kv_heads, width in shapes) * self.dtype.itemsize

    def state_bytes(self, span: LayerSpan) -> int:
        """What one state takes in these layers."""
        return sum(shape.bytes(self.rows_dtype.itemsize) for shape in self.state_shapes(span).values())

    def state_shapes(self, span: LayerSpan) -> dict[int, StateShape]:
        """Of those of these layers that keep a state."""
        shapes = {layer: self.states[layer - self.span.start] for layer in span}
        return {layer: shape for layer, shape in shapes.items() if shape is not None}

    def tokens_of(self, size: int) -> int:
        """Rows through all layers of the span that sessions of so many bytes may have: the longest, and one of the rest."""
        row = self.row_bytes(self.span)
        if not self.state_bytes(self.span):
            return size // row // PAGE_ROWS * PAGE_ROWS if row else 0
        sessions, rest = divmod(max(0, size), self.needed(self.max_positions, self.span))
        lengths = range(0, self.max_positions, PAGE_ROWS)
        fitting = bisect_right(lengths, rest, key=lambda rows: self.needed(rows, self.span))
        return sessions * self.max_positions + lengths[max(0, fitting - 1)]

    def needed(self, max_rows: int, span: LayerSpan) -> int:
        """Bytes that a session takes of the budget."""
        return pages_of(max_rows) * self.row_bytes(span) + states_of(max_rows) * self.state_bytes(span)

    def open(self, max_rows: int, span: LayerSpan | None = None) -> SessionCache:
        """Reserve room for a session. Raises Overloaded with numbers, UsageFault for what can never be had."""
        span = self.span if span is None else span
        return SessionCache(self, span, max_rows, self.reserve(max_rows, span))


class SessionCache(Reservation):
    """One session's keys and values, layer by layer, and how many rows of them are valid."""

    _pool: CachePool

    def __init__(self, pool: CachePool, span: LayerSpan, max_rows: int, reserved: int) -> None:
        super().__init__(pool, span, max_rows, reserved)
        self._capacity = 0  # rows allocated
        self._places: np.ndarray[tuple[int, int], np.dtype[np.int64]] | None = None
        self._layers: list[Tensor] = []  # for each layer [2, 1, kv_heads, capacity, width]: keys, then values
        shapes = pool.state_shapes(span)
        self._recurrent = {layer: index for index, layer in enumerate(shapes)}
        self._states = States(list(shapes.values()), pool.rows_dtype, pool.device, pool.any_cut)

    def begin(self, rows: int) -> None:
        """A call for so many rows more is under way. Until `advance` says that it succeeded, it leaves no trace."""
        self.grow(self.position + rows)
        if self._recurrent:
            self._states.begin(self.position)

    def advance(self, rows: int, whole_chunk: bool = False) -> None:
        """The call has come to its end: these rows are valid."""
        self.position += rows
        if self._recurrent:
            self._states.commit(self.position, whole_chunk)

    def grow(self, rows: int) -> None:
        """Make room for rows up to that position. Capacity doubles, so growing copies each row about once."""
        self.check_room(rows)
        if rows <= self._capacity:
            return
        capacity = min(pages_of(max(rows, 2 * self._capacity)), pages_of(self.max_rows))
        if not self._capacity:
            self._layers = [self._allocate(layer, capacity) for layer in self.span]
        else:
            for index, old in enumerate(self._layers):  # old and new stand side by side for one layer only
                new = self._allocate(self.span.start + index, capacity)
                held = tiles_of(self.position)
                new[:, :, :, :held] = old[:, :, :, :held]
                self._layers[index] = new
        self._capacity = capacity
        self._places = None

    def _allocate(self, layer: int, capacity: int) -> Tensor:
        pool = self._pool
        kv_heads, width = pool.shapes[layer - pool.span.start]
        return torch.empty(2, 1, kv_heads, capacity, width, dtype=pool.dtype, device=pool.device)

    def layer(self, layer: int) -> Tensor:
        """The buffer of one layer, [2, 1, kv_heads, capacity, width]; what lies beyond `position` is arbitrary.

        Portable kernels keep a head's keys in tiles of TILE_ROWS positions, [head_dim, TILE_ROWS] each; in caches of int8, behind
        each tile of keys and of values stand its steps, [TILE_ROWS] of fp32.
        """
        return self._layers[layer - self.span.start]

    def places(self) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        """Where each layer's keys and values begin, and how many numbers heads lie apart, [layers, 3]: `struct cached`."""
        if self._places is None:
            rows = [
                (held.data_ptr(), held.data_ptr() + held.stride(0) * held.itemsize, held.stride(2))
                for held in self._layers
            ]
            self._places = np.array(rows, dtype=np.int64)
        return self._places

    def state(self, layer: int, position: int) -> tuple[Memory, Memory]:
        """Of a layer that keeps a state: what rows from that position on read, and where they write. See `begin`."""
        return self._states.layer(self._recurrent[layer], position)

    def state_places(self, position: int) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        """Where rows from that position on read windows and memories, and where they write them, [layers that keep a state, 4]:
        `struct state`. See `begin`."""
        return self._states.places(position)

    def holds(self, position: int) -> bool:
        """Whether it can be rolled back there: anywhere, but for layers that keep a state."""
        return 0 <= position <= self.position and (not self._recurrent or self._states.holds(position))

    def beginning(self, rows: int) -> int:
        """How many of its first rows, so many at most, another session may begin with; 0: with none."""
        rows = min(rows, self.position)
        return self._states.beginning(rows) if self._recurrent else rows

    def rollback(self, position: int) -> None:
        """Forget the rows from that position on."""
        if not self.holds(position):
            raise LocalFault(f"{self!r} cannot be rolled back to {position}")
        self.position = position
        self._states.rollback(position)

    def settle(self) -> int:
        """No more rows will come: reserved is from now on what is allocated, in bytes."""
        self._states.settle()
        needed = self._capacity * self._pool.row_bytes(self.span) + self._states.bytes
        if self._open and needed < self._reserved:
            self._pool.shrink(self._reserved, needed)
            self._reserved, self.max_rows = needed, self._capacity
        return self._reserved

    def copy(self, parent: SessionCache, rows: int, layers: LayerSpan) -> None:
        """The first `rows` rows of another session in these layers; they are valid once the last layer has them.

        Raises UsageFault where it does not hold so many: what lies beyond them may be anybody's. Raises SessionFault where
        it has no state of just so many.
        """
        parent.check_room(rows)
        if not 0 < rows <= parent.position:
            raise UsageFault(f"{parent!r} cannot give its first {rows} rows")
        self.grow(rows)
        held = tiles_of(rows)
        for layer in layers:
            self.layer(layer)[:, :, :, :held] = parent.layer(layer)[:, :, :, :held]
        if self._recurrent and layers.start == self.span.start:  # at once: between calls the parent may go on
            self._states.copy(parent._states, rows)
        if layers.stop == self.span.stop:
            self.position = rows

    def close(self) -> None:
        """Give the memory and the reservation back. Closing twice does nothing."""
        if self._open:
            self._open = False
            self._layers, self._places = [], None
            self._states.close()
            self._pool.release(self._reserved)
