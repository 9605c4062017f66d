"""A text's rows in one call, each of which sees all others, before and after it. Nothing is cached.

The call has exactly the text's rows, so that its bits depend on the text alone: the rule of chunks in docs/DESIGN.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from swarm.engine.layers.attention import Attention
from swarm.engine.layers.gated_delta import Delta
from swarm.engine.layers.passes import Together
from swarm.engine.layers.relative_position import distance_biases
from swarm.engine.layers.rope import RopeTable
from swarm.errors import LocalFault
from swarm.model.spec import ModelSpec

BLOCK_ROWS = 512  # that ask together where a row sees only those near it


class BidirectionalPass(Together):
    """Rows of one text, positions 0 to its end."""

    def __init__(self, spec: ModelSpec, ropes: Sequence[RopeTable], rows: int, dtype: torch.dtype) -> None:
        super().__init__(spec)
        self.rows = rows
        self.angles = [rope.slice(0, rows) for rope in ropes]
        self.dtype = dtype
        self._biases: Tensor | None = None  # [heads, rows, rows]

    def recur(self, delta: Delta, layer: int, projected: Tensor) -> Tensor:
        raise LocalFault("a state goes through rows one way only")

    def attend(self, attention: Attention, layer: int, queries: Tensor, keys_values: Tensor) -> Tensor:
        group = attention.heads // attention.kv_heads
        keys, values = keys_values.repeat_interleave(group, 2).permute(1, 2, 0, 3).unsqueeze(1).unbind()
        asked = queries.transpose(0, 1).unsqueeze(0)  # [1, heads, rows, head_dim], as keys and values
        reach = self.rows if attention.window is None else attention.window // 2
        if reach >= self.rows - 1:
            answer = attention.answer(asked, keys, values, self._by_distance(attention), scale=attention.scale)
        else:
            answer = torch.cat([self._near(attention, asked, keys, values, *block) for block in self._blocks(reach)], 2)
        return answer.squeeze(0).transpose(0, 1).reshape(self.rows, -1)

    def _by_distance(self, attention: Attention) -> Tensor | None:
        """Made once for all layers, whose tables are alike."""
        if attention.distances is not None and self._biases is None:
            self._biases = distance_biases(attention.distances, self.rows)
        return self._biases

    def _blocks(self, reach: int) -> Iterator[tuple[int, int, int]]:
        """Rows that ask together, first and one past the last, and how far they see: memory grows with the text only."""
        for start in range(0, self.rows, BLOCK_ROWS):
            yield start, min(self.rows, start + BLOCK_ROWS), reach

    def _near(
        self, attention: Attention, asked: Tensor, keys: Tensor, values: Tensor, start: int, stop: int, reach: int
    ) -> Tensor:
        """What rows are answered by those that are no further from them than `reach`."""
        first, last = max(0, start - reach), min(self.rows, stop + reach)
        hidden = torch.full((stop - start, last - first), -torch.inf, dtype=self.dtype, device=asked.device)
        mask = hidden.triu(start - first + reach + 1) + hidden.tril(start - first - reach - 1)
        seen = (each[:, :, first:last] for each in (keys, values))
        return attention.answer(asked[:, :, start:stop], *seen, mask, scale=attention.scale)
