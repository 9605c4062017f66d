"""From token ids to the rows that enter the first layer. Knows nothing of text, nor of what comes after."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from swarm.checkpoint.stored_tensors import Table
from swarm.engine.layers.linear import Linear
from swarm.engine.layers.norm import Norm
from swarm.errors import UsageFault
from swarm.model.spec import ModelSpec


class Embedding:
    """A row of the table for each id; what the model scales it by, adds to it by position, and norms it with."""

    def __init__(
        self,
        spec: ModelSpec,
        table: Table,
        positions: Table | None,
        token_type: Tensor | None,
        projection: Linear | None,
        norm: Norm | None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.spec = spec
        self.dtype = dtype
        self.device = device
        self._table = table  # [vocab, hidden], on CPU; a row is read as it is asked for, where its format allows that
        self._positions = positions  # [positions, hidden], likewise
        self._token_type = token_type  # [1, hidden], of all tokens
        self._projection = projection  # from the table's width to that of rows
        self._norm = norm
        self._scale = None  # in the rows' precision
        if spec.embedding_scale != 1.0:
            self._scale = torch.tensor(spec.embedding_scale, dtype=dtype, device=device)

    @property
    def bytes(self) -> int:
        """Memory held by tables that cannot be left in the files."""
        return self._table.bytes + (0 if self._positions is None else self._positions.bytes)

    def rows(self, ids: Sequence[int], start: int) -> Tensor:
        """[rows, hidden] of tokens at the positions from `start`. Raises UsageFault naming an id outside the vocabulary."""
        if not ids:
            raise UsageFault("no tokens were given: a prompt has at least one")
        for id_ in (min(ids), max(ids)):
            if not 0 <= id_ < self.spec.vocab:
                raise UsageFault(f"token id {id_} is outside the vocabulary of {self.spec.vocab}")
        rows = self._taken(self._table, torch.tensor(ids))
        if self._projection is not None:
            rows = self._projection.decode(rows)
        if self._scale is not None:
            rows = rows * self._scale
        if self._token_type is not None:
            rows = rows + self._token_type
        if self._positions is not None:
            rows = rows + self._taken(self._positions, self._places(ids, start, self._positions.count - 1))
        return rows if self._norm is None else self._norm.compute(rows)

    def _places(self, ids: Sequence[int], start: int, last: int) -> Tensor:
        """For each id the row of the table of positions."""
        if self.spec.pad_id is not None:
            counted = torch.tensor(ids) != self.spec.pad_id
            places = counted.cumsum(0) * counted + start + self.spec.pad_id
        else:
            first = start + self.spec.family.position_offset
            places = torch.arange(first, first + len(ids))
        # The token that fills a context is embedded too, although nothing follows it
        return places.clamp(max=last)

    def _taken(self, table: Table, index: Tensor) -> Tensor:
        return table.rows(index).to(device=self.device, dtype=self.dtype)
