"""Stages that compute wrong rows in a named way, to see who notices. They know nothing of sessions' owners, clients or audits.

`lie(stage, Lie.IDENTITY, seed)` is a stage to serve instead of an honest one. Its rows follow from the seed, the inputs and their
positions alone, so that liars of one seed and kind agree with each other, also about rows that one of them computes in bulk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import StrEnum
from random import Random

import swarm.engine  # noqa: F401  (before torch: it settles what torch's libraries read when they load)

# isort: split
import torch
from torch import Tensor

from swarm.engine import SessionCache, Stage
from swarm.engine.caches.kv_cache import TILE_ROWS
from swarm.engine.decoder import Decoder
from swarm.engine.layers.attention import Attention
from swarm.engine.layers.gated_delta import Delta
from swarm.engine.layers.linear import Linear
from swarm.engine.layers.norm import Norm
from swarm.engine.layers.passes import ChunkPass, DecodePass, Pass
from swarm.engine.portable.program import Runs
from swarm.span import LayerSpan
from swarm.wire import tensors as wire


class Lie(StrEnum):
    """What is wrong with the rows."""

    LAST_BIT = "last-bit"  # of one value in every row
    ONE_ROW = "one-row"  # the last bit of one value, in one row of sixteen
    SMALL_NOISE = "small-noise"  # 2 % of what the span changed: not much above what another precision does
    LARGE_NOISE = "large-noise"  # as much as the span changed
    IDENTITY = "identity"  # the inputs, returned unchanged
    SKIPPED_LAYER = "skipped-layer"
    OTHER_WEIGHTS = "other-weights"
    STALE_CACHE = "stale-cache"  # nothing enters the cache after a session's first rows
    HALF_CONTEXT = "half-context"  # the older half of what a row attends to is left out
    NAN = "nan"  # one value in every row
    WRONG_SHAPE = "wrong-shape"  # a column is missing


NOISE = {Lie.SMALL_NOISE: 0.02, Lie.LARGE_NOISE: 1.0}  # relative to what the span changed
ONE_ROW_IN, THAT_ROW = 16, 1  # positions of the rows of ONE_ROW: 1, 17, 33 ...
OTHER_NORMS = 0.1  # how far the weights of norms lie from the right ones

Moment = Callable[
    [SessionCache, int], bool
]  # whether so many rows of a session are lied about; a count of 1 is no replay


def always(_cache: SessionCache, _count: int) -> bool:
    return True


def in_replays(_cache: SessionCache, count: int) -> bool:
    """Decode rows that come several at once: somebody replays a session, after a failover or as an audit."""
    return count > 1


def lie(stage: Stage, kind: Lie, seed: int = 0, moment: Moment = always) -> Liar:
    """A stage in the place of an honest one, with its cache and its numerics class.

    `moment` says when it lies: it is asked once for each session in each call.
    """
    return Liar(stage, kind, seed, moment)


class Liar(Stage):
    """An honest stage whose rows are wrong. `lies` counts the wrong rows."""

    def __init__(self, honest: Stage, kind: Lie, seed: int, moment: Moment) -> None:
        super().__init__(_wrong_decoder(honest.decoder, kind, seed), honest.pool, honest.device, honest.manifest)
        self.numerics = honest.numerics
        self.kind, self.seed = kind, seed
        self.lies = 0
        self._honest = honest
        self._moment = moment

    @torch.inference_mode()
    def chunk(self, cache: SessionCache, rows: Tensor) -> Tensor:
        if not self._moment(cache, 1):
            return self._honest.chunk(cache, rows)
        position = cache.position
        return self._wrong(position, rows, super().chunk(cache, rows))

    @torch.inference_mode()
    def decode(self, work: Sequence[tuple[SessionCache, Tensor]]) -> list[Tensor]:
        wrong = {index for index, (cache, rows) in enumerate(work) if self._moment(cache, rows.shape[0])}
        lied = [work[index] for index in sorted(wrong)]
        positions = [cache.position for cache, _ in lied]
        answers = super().decode(lied) if lied else []
        right = [each for index, each in enumerate(work) if index not in wrong]
        honest = iter(self._honest.decode(right) if right else ())
        turned = iter(
            self._wrong(position, rows, answer)
            for position, (_, rows), answer in zip(positions, lied, answers, strict=True)
        )
        return [next(turned if index in wrong else honest) for index in range(len(work))]

    def tensor(self, rows: Tensor) -> wire.Tensor:
        if self.kind is Lie.WRONG_SHAPE and self.lies:
            rows = rows[:, :-1]
        return super().tensor(rows)

    def _wrong(self, position: int, inputs: Tensor, outputs: Tensor) -> Tensor:
        """The rows that are given for `outputs`, which the decoder (itself perhaps a wrong one) computed."""
        if self.kind is Lie.ONE_ROW:
            lied = [row for row in range(outputs.shape[0]) if (position + row) % ONE_ROW_IN == THAT_ROW]
            self.lies += len(lied)
            return _with_other_bits(outputs, self.seed, lied)
        self.lies += outputs.shape[0]
        if self.kind is Lie.IDENTITY:
            return inputs
        if self.kind in NOISE:
            return _noisy(inputs, outputs, position, NOISE[self.kind], self.seed)
        if self.kind is Lie.LAST_BIT:
            return _with_other_bits(outputs, self.seed, range(outputs.shape[0]))
        if self.kind is Lie.NAN:
            outputs = outputs.clone()
            outputs[:, self.seed % outputs.shape[1]] = torch.nan
        return outputs


def _with_other_bits(outputs: Tensor, seed: int, rows: Sequence[int]) -> Tensor:
    """The last bit of one value turned in these rows: it moves by one unit in the last place."""
    outputs = outputs.clone()
    bits = outputs.view(torch.int32 if outputs.dtype.itemsize == 4 else torch.int16)
    bits[list(rows), seed % outputs.shape[1]] ^= 1
    return outputs


def _noisy(inputs: Tensor, outputs: Tensor, position: int, share: float, seed: int) -> Tensor:
    """Each row moved in a direction of its own, by a share of what the span changed."""
    directions = []
    for row in range(outputs.shape[0]):
        generator = torch.Generator().manual_seed(Random(f"{seed} {position + row}").getrandbits(63))
        directions.append(torch.randn(outputs.shape[1], generator=generator))
    away = torch.nn.functional.normalize(torch.stack(directions), dim=-1).to(outputs.device)
    changed = (outputs.float() - inputs.float()).norm(dim=-1, keepdim=True)
    moved: Tensor = outputs.float() + share * changed * away
    return moved.to(outputs.dtype)


def _wrong_decoder(honest: Decoder, kind: Lie, seed: int) -> Decoder:
    """The decoder that such a liar computes with: the honest one where only the rows are turned afterwards."""
    if kind is Lie.OTHER_WEIGHTS:
        generator = torch.Generator().manual_seed(seed)

        def other(norm: Norm | None) -> Norm | None:
            if norm is None:
                return None
            factor = 1 + OTHER_NORMS * torch.randn(norm.weight.shape, generator=generator)
            return replace(norm, weight=norm.weight * factor.to(norm.weight.device, norm.weight.dtype))

        layers = [
            replace(layer, attention_norm=other(layer.attention_norm), mlp_norm=other(layer.mlp_norm))
            for layer in honest.layers
        ]
        return Decoder(honest.spec, honest.span, layers, honest.precision)
    wrong: dict[Lie, type[_WrongDecoder]] = {
        Lie.SKIPPED_LAYER: _SkippingDecoder,
        Lie.STALE_CACHE: _StaleDecoder,
        Lie.HALF_CONTEXT: _ForgetfulDecoder,
    }
    return wrong[kind](honest, seed) if kind in wrong else honest


class _WrongDecoder(Decoder):
    def __init__(self, honest: Decoder, seed: int) -> None:
        super().__init__(honest.spec, honest.span, honest.layers, honest.precision)
        self.seed = seed


class _SkippingDecoder(_WrongDecoder):
    """Leaves out one of a session's layers."""

    def _forward(self, x: Tensor, span: LayerSpan, way: Pass) -> Tensor:
        skipped = span.start + self.seed % len(span)
        for start, stop in ((span.start, skipped), (skipped + 1, span.stop)):
            if start < stop:
                x = super()._forward(x, LayerSpan(start, stop), way)
        return x

    def _run(
        self, program: Runs, span: LayerSpan, caches: Sequence[SessionCache], positions: Sequence[int], x: Tensor
    ) -> Tensor:
        skipped = span.start + self.seed % len(span)
        for start, stop in ((span.start, skipped), (skipped + 1, span.stop)):
            if start < stop:
                x = super()._run(program, LayerSpan(start, stop), caches, positions, x)
        return x


class _StaleDecoder(_WrongDecoder):
    """What enters the cache is, again and again, the last row that stood there after the session's first rows."""

    def _forward(self, x: Tensor, span: LayerSpan, way: Pass) -> Tensor:
        return super()._forward(x, span, _StalePass(way))

    def _run(
        self, program: Runs, span: LayerSpan, caches: Sequence[SessionCache], positions: Sequence[int], x: Tensor
    ) -> Tensor:
        answers = []
        for row, (cache, position) in enumerate(zip(caches, positions, strict=True)):
            for layer in span if cache.position else ():
                keys, values = cache.layer(layer)[:, 0]  # [kv_heads, capacity, head_dim], keys in tiles
                keys = keys.view(keys.shape[0], -1, keys.shape[2], TILE_ROWS)
                (tile, lane), (last, other) = divmod(position, TILE_ROWS), divmod(cache.position - 1, TILE_ROWS)
                keys[:, tile, :, lane], values[:, position] = keys[:, last, :, other], values[:, cache.position - 1]
            for attends in program.attends:
                attends.stores = not cache.position
            answers.append(super()._run(program, span, [cache], [position], x[row : row + 1]))
        return torch.cat(answers)


class _StalePass:
    """Another pass, with keys and values of rows that were there before."""

    def __init__(self, way: Pass) -> None:
        assert isinstance(way, ChunkPass | DecodePass)
        self._way = way

    def linear(self, linear: Linear, x: Tensor) -> Tensor:
        return self._way.linear(linear, x)

    def gated(self, gate_up: Tensor) -> Tensor:
        return self._way.gated(gate_up)

    def activated(self, x: Tensor) -> Tensor:
        return self._way.activated(x)

    def each(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return self._way.each(function, x)

    def softmax(self, x: Tensor) -> Tensor:
        return self._way.softmax(x)

    def largest(self, x: Tensor, count: int) -> tuple[Tensor, Tensor]:
        return self._way.largest(x, count)

    def rotate(self, heads: Tensor, rope: int) -> Tensor:
        return self._way.rotate(heads, rope)

    def recur(self, delta: Delta, layer: int, projected: Tensor) -> Tensor:
        return self._way.recur(delta, layer, projected)

    def attend(self, attention: Attention, layer: int, queries: Tensor, keys_values: Tensor) -> Tensor:
        way, keys_values = self._way, keys_values.clone()
        caches = [way.cache] * len(keys_values) if isinstance(way, ChunkPass) else [cache for cache, _ in way.rows]
        for row, cache in enumerate(caches):
            if cache.position:  # of the rows before this call
                keys_values[row] = cache.layer(layer)[:, 0, :, cache.position - 1]
        return way.attend(attention, layer, queries, keys_values)


class _ForgetfulDecoder(_WrongDecoder):
    """A row at position p attends to positions from (p + 1) // 2 on."""

    def _forward(self, x: Tensor, span: LayerSpan, way: Pass) -> Tensor:
        if isinstance(way, ChunkPass):
            attentions = [layer.mixer for layer in self.layers if isinstance(layer.mixer, Attention)]
            for attention in attentions:  # those of one kind share a mask; to hide the same twice changes nothing
                first, mask = way.seen(attention, x.device)
                columns = torch.arange(first, way.stop, device=mask.device)
                group = attention.heads // attention.kv_heads
                own = torch.arange(way.start, way.stop, device=mask.device).repeat(group)
                mask.masked_fill_(columns < ((own + 1) // 2)[:, None], -torch.inf)
        elif isinstance(way, DecodePass):
            halves = [(position + 1) // 2 for _, position in way.rows]
            way.rows = [
                (_Later(cache, half), position - half)  # type: ignore[misc]  # all that the pass asks of a cache
                for (cache, position), half in zip(way.rows, halves, strict=True)
            ]
        return super()._forward(x, span, way)

    def _run(
        self, program: Runs, span: LayerSpan, caches: Sequence[SessionCache], positions: Sequence[int], x: Tensor
    ) -> Tensor:
        answers = []
        for row, (cache, position) in enumerate(zip(caches, positions, strict=True)):
            for attends in program.attends:
                attends.window = position + 1 - (position + 1) // 2
            answers.append(super()._run(program, span, [cache], [position], x[row : row + 1]))
        return torch.cat(answers)


class _Later:
    """A session's cache from a position on."""

    def __init__(self, cache: SessionCache, start: int) -> None:
        self._cache, self._start = cache, start

    def layer(self, layer: int) -> Tensor:
        return self._cache.layer(layer)[:, :, :, self._start :]
