"""A text's rows in one call, each of which sees all others, before and after it. Nothing is cached.

The call has exactly the text's rows, so that its bits depend on the text alone: the rule of chunks in docs/DESIGN.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from swarm.engine.activations import ACTIVATIONS
from swarm.engine.attention import Attention
from swarm.engine.delta import Delta
from swarm.engine.linear import Linear
from swarm.engine.rope import RopeTable
from swarm.engine.spec import ModelSpec
from swarm.errors import LocalFault


class WholePass:
    """Rows of one text, positions 0 to its end."""

    def __init__(self, spec: ModelSpec, ropes: Sequence[RopeTable], rows: int, dtype: torch.dtype) -> None:
        self.rows = rows
        self.angles = [rope.slice(0, rows) for rope in ropes]
        self.activation = ACTIVATIONS[spec.activation]
        self.dtype = dtype
        self._masks: dict[int, Tensor] = {}  # by window, [rows, rows]: one for each kind of attention

    def linear(self, linear: Linear, x: Tensor) -> Tensor:
        return linear.chunk(x)

    def gated(self, gate_up: Tensor) -> Tensor:
        gate, up = gate_up.chunk(2, -1)
        return self.activation(gate) * up

    def activated(self, x: Tensor) -> Tensor:
        return self.activation(x)

    def each(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return function(x)

    def recur(self, delta: Delta, layer: int, projected: Tensor) -> Tensor:
        raise LocalFault("a state goes through rows one way only")

    def attend(self, attention: Attention, layer: int, queries: Tensor, keys_values: Tensor) -> Tensor:
        group = attention.heads // attention.kv_heads
        keys, values = keys_values.repeat_interleave(group, 2).permute(1, 2, 0, 3).unsqueeze(1).unbind()
        mask = self._mask(attention.window, queries.device)
        answer = attention.answer(queries.transpose(0, 1).unsqueeze(0), keys, values, mask, scale=attention.scale)
        return answer.squeeze(0).transpose(0, 1).reshape(self.rows, -1)

    def _mask(self, window: int | None, device: torch.device) -> Tensor | None:
        """A row sees as many rows after it as before it: `window` in each direction, itself among them."""
        if window is None or window >= self.rows:
            return None
        if window not in self._masks:
            hidden = torch.full((self.rows, self.rows), -torch.inf, dtype=self.dtype, device=device)
            self._masks[window] = hidden.triu(window) + hidden.tril(-window)
        return self._masks[window]
