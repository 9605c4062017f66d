"""The decoder, top-down: layers, and how rows go through a span of them.

Rows pass either as a chunk or as decode rows (swarm.engine.layers.passes). Knows nothing of files, owners or the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from swarm.engine.caches.kv_cache import SessionCache
from swarm.engine.layers.alibi import build_alibi
from swarm.engine.layers.attention import Attention
from swarm.engine.layers.bidirectional import BidirectionalPass
from swarm.engine.layers.gated_delta import Delta
from swarm.engine.layers.mlp import Experts, Mlp, MlpAndExperts
from swarm.engine.layers.norm import Norm
from swarm.engine.layers.passes import ChunkPass, DecodePass, Pass
from swarm.engine.layers.per_layer_inputs import Looked, TokenInputs
from swarm.engine.layers.rope import RopeTable
from swarm.engine.numerics import Precision
from swarm.engine.portable.passes import PortablePass, PortableTextPass
from swarm.engine.portable.rope import PortableRopeTable
from swarm.model.spec import ModelSpec
from swarm.span import LayerSpan


@dataclass(frozen=True, slots=True)
class Layer:
    """What one layer computes, in this order. A norm that is not there is None."""

    attention_norm: Norm | None
    mixer: Attention | Delta  # by which a row learns of those before it
    attention_end_norm: Norm | None  # of what that adds to a row
    attention_sum_norm: Norm | None  # of the row after that
    mlp_norm: Norm | None
    mlp: Mlp | Experts | MlpAndExperts
    mlp_end_norm: Norm | None
    mlp_sum_norm: Norm | None
    scale: Tensor | None = None  # [1]; of the row after all that
    parallel: bool = False  # the MLP, too, reads the row as it was before attention

    @property
    def bytes(self) -> int:
        norms = (
            self.attention_norm,
            self.attention_end_norm,
            self.attention_sum_norm,
            None if self.mlp_norm is self.attention_norm else self.mlp_norm,
            self.mlp_end_norm,
            self.mlp_sum_norm,
        )
        return self.mixer.bytes + self.mlp.bytes + sum(norm.bytes for norm in norms if norm is not None)


class Decoder:
    """The layers of a span. `chunk` and `decode` take and give rows of hidden states, [rows, width]."""

    def __init__(
        self,
        spec: ModelSpec,
        span: LayerSpan,
        layers: Sequence[Layer],
        precision: Precision,
        tokens: TokenInputs | None = None,
    ) -> None:
        self.spec = spec
        self.span = span
        self.layers = layers
        self.precision = precision
        self.tokens = tokens  # what layers take of a row's token itself
        device = layers[0].mixer.output.device
        self.ropes: list[RopeTable] = []
        self.portable_ropes: list[PortableRopeTable] = []
        turning = list(zip(spec.ropes, spec.rope_widths, strict=True))
        if precision.portable:
            self.portable_ropes = [PortableRopeTable(rope, width) for rope, width in turning]
        else:
            self.ropes = [RopeTable(rope, width, device) for rope, width in turning]
        self.alibi = build_alibi(spec, precision.inner, device) if spec.family.alibi else None
        self.residual_scale = None if spec.residual_scale == 1.0 else spec.residual_scale

    @property
    def bytes(self) -> int:
        """Memory held by weights."""
        return sum(layer.bytes for layer in self.layers) + (0 if self.tokens is None else self.tokens.bytes)

    def chunk(self, cache: SessionCache, x: Tensor) -> Tensor:
        """Rows at the cache's position onwards, computed together."""
        if self.precision.portable:
            positions = range(cache.position, cache.position + x.shape[0])
            return self.decode([cache] * x.shape[0], positions, x)
        way = ChunkPass(self.spec, self.ropes, cache, x.shape[0], self.precision.dtype, self.alibi)
        return self._forward(x, cache.span, way)

    def whole(self, span: LayerSpan, x: Tensor) -> Tensor:
        """All rows of a text, each of which sees all others."""
        way: Pass = (
            PortableTextPass(self.spec, self.portable_ropes, x.shape[0])
            if self.precision.portable
            else BidirectionalPass(self.spec, self.ropes, x.shape[0], self.precision.dtype)
        )
        return self._forward(x, span, way)

    def decode(self, caches: Sequence[SessionCache], positions: Sequence[int], x: Tensor) -> Tensor:
        """Row i, of caches[i] at positions[i], each for itself; all over the same layers."""
        way: Pass = (
            PortablePass(self.spec, self.portable_ropes, caches, positions, self.alibi)
            if self.precision.portable
            else DecodePass(self.spec, self.ropes, caches, positions, self.alibi)
        )
        return self._forward(x, caches[0].span, way)

    def _forward(self, x: Tensor, span: LayerSpan, way: Pass) -> Tensor:
        if self.tokens is None:
            return self._through(x, span, way, None)
        x, digits = x[:, : self.spec.hidden].contiguous(), x[:, self.spec.hidden :]
        return torch.cat((self._through(x, span, way, self.tokens.look_up(digits)), digits), 1)

    def _through(self, x: Tensor, span: LayerSpan, way: Pass, looked: Looked | None) -> Tensor:
        for index in span:
            layer = self.layers[index - self.span.start]
            before = x = x.to(self.precision.inner)

            h = _normed(x, layer.attention_norm)  # [rows, hidden]
            h = _normed(layer.mixer.compute(way, index, h), layer.attention_end_norm)
            x = _normed(self._sum(x, h), layer.attention_sum_norm)

            h = _normed(before if layer.parallel else x, layer.mlp_norm)
            h = _normed(layer.mlp.compute(way, h), layer.mlp_end_norm)
            x = _normed(self._sum(x, h), layer.mlp_sum_norm)
            if self.tokens is not None and looked is not None:
                x = self.tokens.add(way, index, x, looked)
            if layer.scale is not None:
                x = x * layer.scale
            x = x.to(self.precision.dtype)  # after each layer, so that a cut between any two changes nothing
        return x

    def _sum(self, x: Tensor, h: Tensor) -> Tensor:
        return x + (h if self.residual_scale is None else h * self.residual_scale)


def _normed(x: Tensor, norm: Norm | None) -> Tensor:
    return x if norm is None else norm.compute(x)
