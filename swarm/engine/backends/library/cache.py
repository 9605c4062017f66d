"""Sessions' keys and values where the library computes: of every row, also in layers that look back over a window only.

So a row can be taken back, and a replay finds what was there. Reserved when a session opens or is extended, within one budget.
"""

from __future__ import annotations

from collections.abc import Sequence

from transformers.cache_utils import Cache, DynamicLayer

from swarm.engine.caches.budget import Budget, Reservation
from swarm.engine.caches.kv_cache import pages_of
from swarm.errors import LocalFault, UsageFault
from swarm.span import LayerSpan


class Elsewhere(DynamicLayer):
    """In the place of a layer that is not computed here: all it knows is how many rows came before."""

    def __init__(self, rows: int = 0) -> None:
        super().__init__()
        self.rows = rows

    def get_seq_length(self) -> int:
        return self.rows


class Pool(Budget):
    """The byte budget that the sessions of one stage share."""

    def __init__(self, span: LayerSpan, row_bytes: Sequence[int], budget: int, max_positions: int) -> None:
        super().__init__(span, budget, max_positions)
        self.layer_count = len(row_bytes)
        self.row_bytes = tuple(row_bytes)  # of each layer of the model

    def tokens_of(self, size: int) -> int:
        page = self.needed(1, self.span)
        return size // page * pages_of(1)

    def needed(self, max_rows: int, span: LayerSpan) -> int:
        return pages_of(max_rows) * sum(self.row_bytes[layer] for layer in span)

    def open(self, max_rows: int, span: LayerSpan | None = None) -> SpanCache:
        """Reserve room for a session. Raises Overloaded with numbers, UsageFault for what can never be had."""
        span = self.span if span is None else span
        return SpanCache(self, span, max_rows, self.reserve(max_rows, span))


class SpanCache(Reservation):
    """One session's keys and values, layer by layer, and how many rows of them are valid."""

    _pool: Pool

    def __init__(self, pool: Pool, span: LayerSpan, max_rows: int, reserved: int) -> None:
        super().__init__(pool, span, max_rows, reserved)
        self._layers = [DynamicLayer() if layer in span else Elsewhere() for layer in range(pool.layer_count)]

    def past(self) -> Cache:
        """As the library takes it, with the valid rows and no others."""
        self._crop()
        for layer in self._layers:
            if isinstance(layer, Elsewhere):
                layer.rows = self.position
        return Cache(layers=list(self._layers))

    def layer(self, layer: int) -> DynamicLayer:
        return self._layers[layer]

    def holds(self, position: int) -> bool:
        """Whether it can be rolled back there."""
        return 0 <= position <= self.position

    def beginning(self, rows: int) -> int:
        """How many of its first rows, so many at most, another session may begin with."""
        return min(rows, self.position)

    def rollback(self, position: int) -> None:
        """Forget the rows from that position on."""
        if not self.holds(position):
            raise LocalFault(f"{self!r} cannot be rolled back to {position}")
        self.position = position
        self._crop()

    def _crop(self) -> None:
        """To the valid rows; a call that failed may have left more in some layers."""
        for layer in self.span:
            held = self._layers[layer]
            surplus = held.get_seq_length() - self.position
            if surplus and not self.position:
                held.reset()
            elif surplus:
                held.crop(-surplus)

    def settle(self) -> int:
        """No more rows will come: reserved is from now on what those that came take, in bytes."""
        needed = self._pool.needed(self.position, self.span)
        if self._open and needed < self._reserved:
            self._crop()
            for layer in self.span:
                held = self._layers[layer]
                if held.keys is not None and held.values is not None:
                    held.keys, held.values = held.keys.clone(), held.values.clone()
            self._pool.shrink(self._reserved, needed)
            self._reserved, self.max_rows = needed, pages_of(self.position)
        return self._reserved

    def copy(self, parent: SpanCache, rows: int, layers: LayerSpan) -> None:
        """The first `rows` rows of another session in these layers; they are valid once the last layer has them.

        Raises UsageFault where it does not hold so many: what lies beyond them may be anybody's.
        """
        parent.check_room(rows)
        if not 0 < rows <= parent.position:
            raise UsageFault(f"{parent!r} cannot give its first {rows} rows")
        self.check_room(rows)
        for layer in layers:
            theirs, fresh = parent.layer(layer), DynamicLayer()
            fresh.update(theirs.keys[..., :rows, :], theirs.values[..., :rows, :])
            self._layers[layer] = fresh
        if layers.stop == self.span.stop:
            self.position = rows

    def close(self) -> None:
        """Give the memory and the reservation back. Closing twice does nothing."""
        if self._open:
            self._open = False
            self._layers = []
            self._pool.release(self._reserved)
