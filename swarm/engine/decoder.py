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
from swarm.engine.portable.assembler import ROWS, Assembler
from swarm.engine.portable.lowering import Lowering
from swarm.engine.portable.program import Program, Runs, one_set_of_biases
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
        place: torch.device | None = None,
    ) -> None:
        """`place`: where portable kernels compute; None: where weights are."""
        self.spec = spec
        self.span = span
        self.layers = layers
        self.precision = precision
        self.tokens = tokens  # what layers take of a row's token itself
        device = layers[0].mixer.output.device
        self.ropes: list[RopeTable] = []
        self.alibi = build_alibi(spec, precision.inner, device) if spec.family.alibi else None
        self.residual_scale = None if spec.residual_scale == 1.0 else spec.residual_scale
        turning = list(zip(spec.ropes, spec.rope_widths, strict=True))
        self.program: Runs | None = None
        if precision.portable:
            program = self.assembled([PortableRopeTable(rope, width) for rope, width in turning])
            self.program = program if place is None or place.type == "cpu" else on_device(program, place)
        else:
            self.ropes = [RopeTable(rope, width, device) for rope, width in turning]

    @property
    def bytes(self) -> int:
        """Memory held by weights."""
        return sum(layer.bytes for layer in self.layers) + (0 if self.tokens is None else self.tokens.bytes)

    def assembled(self, ropes: Sequence[PortableRopeTable]) -> Program:
        """What `_through` does, as operations of the portable kernels."""
        to = Assembler(self.spec.hidden)
        lowering = Lowering(self.spec, to, self.precision.rows, self.precision.cached)
        starts, mixers = [], [layer.mixer for layer in self.layers]
        recurrent = [isinstance(mixer, Delta) for mixer in mixers]
        for index, layer in zip(self.span, self.layers, strict=True):
            starts.append(len(to.operations))
            shared_norm = layer.parallel and layer.mlp_norm is not None and layer.mlp_norm is layer.attention_norm
            before = to.copy(ROWS, "before", self.spec.hidden) if layer.parallel and not shared_norm else ROWS
            h = lowering.normed(layer.attention_norm, ROWS, "normed")
            if isinstance(layer.mixer, Delta):
                h = lowering.recurring(layer.mixer, recurrent[: index - self.span.start].count(True), h)
            else:
                made_by = index if layer.mixer.keys_of is None else layer.mixer.keys_of
                h = lowering.attention(layer.mixer, made_by - self.span.start, h)
            lowering.add_to_rows(lowering.normed(layer.attention_end_norm, h, "adding"), self.residual_scale)
            lowering.normed(layer.attention_sum_norm, ROWS, ROWS)

            h = "normed" if shared_norm else lowering.normed(layer.mlp_norm, before, "normed")
            h = lowering.whichever_mlp(layer.mlp, h)
            lowering.add_to_rows(lowering.normed(layer.mlp_end_norm, h, "adding"), self.residual_scale)
            lowering.normed(layer.mlp_sum_norm, ROWS, ROWS)
            if self.tokens is not None:
                lowering.token_input(self.tokens.inputs[index], index - self.span.start)
            if layer.scale is not None:
                to.scale(float(layer.scale), ROWS, ROWS, self.spec.hidden)
            if self.precision.dtype == torch.bfloat16:
                to.rounded()
        attentions = [each for each in mixers if isinstance(each, Attention)]
        distances, windows = [each.distances for each in attentions], [each.window for each in attentions]
        biases = one_set_of_biases(self.alibi, distances, windows)
        return Program(self.span, to, starts, recurrent, ropes, self.precision.dtype, biases)

    def chunk(self, cache: SessionCache, x: Tensor) -> Tensor:
        """Rows at the cache's position onwards, computed together."""
        if self.program is not None:
            positions = range(cache.position, cache.position + x.shape[0])
            return self.decode([cache] * x.shape[0], positions, x)
        way = ChunkPass(self.spec, self.ropes, cache, x.shape[0], self.precision.dtype, self.alibi)
        return self._forward(x, cache.span, way)

    def whole(self, span: LayerSpan, x: Tensor) -> Tensor:
        """All rows of a text, each of which sees all others."""
        if self.program is not None:
            return self.program.text(span, x)
        return self._forward(x, span, BidirectionalPass(self.spec, self.ropes, x.shape[0], self.precision.dtype))

    def decode(self, caches: Sequence[SessionCache], positions: Sequence[int], x: Tensor) -> Tensor:
        """Row i, of caches[i] at positions[i], each for itself; all over the same layers."""
        if self.program is not None:
            return self._run(self.program, caches[0].span, caches, positions, x)
        return self._forward(x, caches[0].span, DecodePass(self.spec, self.ropes, caches, positions, self.alibi))

    def _run(
        self, program: Runs, span: LayerSpan, caches: Sequence[SessionCache], positions: Sequence[int], x: Tensor
    ) -> Tensor:
        if self.tokens is None:
            return program.sessions(span, caches, positions, x, ())
        digits = x[:, self.spec.hidden :]
        looked = self.tokens.look_up(digits)
        given = (looked.embedded.contiguous(), looked.tokens.flatten(1).contiguous())
        passed = program.sessions(span, caches, positions, x, given)
        return torch.cat((passed, digits.to(passed.device)), 1)

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


def on_device(program: Program, place: torch.device) -> Runs:
    """The same program, computed there."""
    # Imported here because Triton, which it needs, is no dependency where CPUs compute
    from swarm.engine.portable.device.program import DeviceProgram

    return DeviceProgram(program, place)


def _normed(x: Tensor, norm: Norm | None) -> Tensor:
    return x if norm is None else norm.compute(x)
