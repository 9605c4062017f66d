"""What layers take of a row's token itself, besides the row: out of a table, and of the row as it was embedded.

The ids come at the end of rows (swarm.engine.layers.token_digits), so that each worker looks its own layers' part up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from swarm.checkpoint.stored_tensors import Table
from swarm.engine.embedding import Embedding
from swarm.engine.layers.linear import Linear
from swarm.engine.layers.norm import Norm
from swarm.engine.layers.token_digits import ids_of
from swarm.model.spec import ModelSpec
from swarm.span import LayerSpan


class Kernels(Protocol):
    """What a pass computes rows with."""

    def linear(self, linear: Linear, x: Tensor) -> Tensor:
        """[rows, in] -> [rows, out]"""

    def activated(self, x: Tensor) -> Tensor:
        """[rows, inner] -> [rows, inner]"""


@dataclass(frozen=True, slots=True)
class Looked:
    """What was looked up for some rows."""

    embedded: Tensor  # [rows, hidden]
    tokens: Tensor  # [rows, layers, width], of the layers of a span


@dataclass(frozen=True, slots=True)
class TokenInput:
    """One layer's. What it adds to a row passes through a gate that the row opens."""

    context: Linear  # hidden -> width, of the embedded row
    context_norm: Norm
    gate: Linear  # hidden -> width, which is padded from here on to activations.ALIGNMENT
    output: Linear  # width -> hidden
    end_norm: Norm  # of what is added

    @property
    def bytes(self) -> int:
        norms = self.context_norm.bytes + self.end_norm.bytes
        return self.context.bytes + self.gate.bytes + self.output.bytes + norms

    def added(self, way: Kernels, x: Tensor, embedded: Tensor, token: Tensor) -> Tensor:
        """To rows [rows, hidden], of which `embedded` [rows, hidden] and `token` [rows, width] were looked up."""
        context = self.context_norm.compute(way.linear(self.context, embedded) * embedded.shape[1] ** -0.5)
        own = (context + token) * 2**-0.5
        own = functional.pad(own, (0, self.gate.shape[0] - own.shape[1]))
        return self.end_norm.compute(way.linear(self.output, way.activated(way.linear(self.gate, x)) * own))


class TokenInputs:
    """Those of a span's layers, and where they are looked up."""

    def __init__(
        self,
        spec: ModelSpec,
        span: LayerSpan,
        inputs: Mapping[int, TokenInput],
        embedding: Embedding,
        table: Table,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.spec = spec
        self.span = span
        self.inputs = inputs  # by layer
        self.dtype = dtype
        self.device = device
        self._embedding = embedding
        self._table = table  # [vocab, layers * width], of all layers of the model
        self._scale = torch.tensor(spec.token_width**0.5, dtype=dtype, device=device)

    @property
    def bytes(self) -> int:
        """Memory held by weights."""
        return self.table_bytes + sum(each.bytes for each in self.inputs.values())

    @property
    def table_bytes(self) -> int:
        """Memory held by tables: none, where their format lets rows be read alone; they are in the page cache."""
        return self._embedding.bytes + self._table.bytes

    def look_up(self, digits: Tensor) -> Looked:
        """For the ends of rows, [rows, ID_DIGITS]."""
        ids = ids_of(digits, self.spec.vocab)
        return Looked(self._embedding.rows(ids, 0), self._tokens(ids))

    def _tokens(self, ids: Sequence[int]) -> Tensor:
        width = self.spec.token_width
        rows = self._table.rows(torch.tensor(ids))[:, self.span.start * width : self.span.stop * width]
        rows = rows.to(device=self.device, dtype=self.dtype) * self._scale
        return rows.view(len(ids), len(self.span), width)

    def add(self, way: Kernels, layer: int, x: Tensor, looked: Looked) -> Tensor:
        """[rows, hidden] -> [rows, hidden]"""
        token = looked.tokens[:, layer - self.span.start]
        return x + self.inputs[layer].added(way, x, looked.embedded, token)
