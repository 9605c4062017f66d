"""A span of layers ready to compute: what a worker serves. Its methods run on one compute thread.

Knows nothing of sessions' owners, of queues or of the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from swarm.checkpoint import open_checkpoint
from swarm.checkpoint.manifest import Manifest, Progress
from swarm.engine import conversion
from swarm.engine.caches.footprint import row_bytes, session_bytes, state_shape
from swarm.engine.caches.kv_cache import CachePool, SessionCache
from swarm.engine.decoder import Decoder, Layer
from swarm.engine.loading.layers import build_layer
from swarm.engine.loading.per_layer_inputs import build_token_inputs
from swarm.engine.loading.sources import RandomSource, Source, VerifiedSource
from swarm.engine.numerics import CHUNK_ROWS, PrecisionPlan, numerics_class, plan_named, settle_threads
from swarm.engine.portable.choice import no_programs
from swarm.errors import LocalFault, UsageFault
from swarm.model.spec import ModelSpec
from swarm.model.tensor_names import layer_tensors, stacked_tensors, token_tensors
from swarm.span import LayerSpan, held_in_part
from swarm.wire import tensors as wire

PASS_ROWS = 64  # decode rows that go through the layers together
DEFAULT_CACHE_ROWS = 16384  # through all layers of the span, where no budget is given
DEFAULT_SESSIONS = 64  # whose states find room then
COPY_BYTES = 64 << 20  # of a cache's rows that are copied in one call: rows of others wait meanwhile


class Context(Protocol):
    """What is asked of a spec here."""

    @property
    def max_positions(self) -> int: ...

    @property
    def both_ways(self) -> bool: ...


def chunk_rows(spec: Context) -> int:
    """The grid of absolute positions on which chunk boundaries lie: CHUNK_ROWS, or the whole context."""
    return spec.max_positions if spec.both_ways else CHUNK_ROWS


class Stage:
    """`chunk` computes a prompt's rows together, `decode` rows that each stand for themselves."""

    def __init__(self, decoder: Decoder, pool: CachePool, device: torch.device, manifest: Manifest | None) -> None:
        self.decoder = decoder
        self.pool = pool
        self.device = device
        self.manifest = manifest  # None where the weights are random
        self.spec = decoder.spec
        self.span = decoder.span
        self.hidden = decoder.spec.hidden
        self.width = decoder.spec.width
        self.precision = decoder.precision.name
        self.dtype = decoder.precision.dtype
        self._any_cut = decoder.precision.portable
        self.numerics = numerics_class(decoder.precision, device)
        self.weight_bytes = decoder.bytes

    def __repr__(self) -> str:
        return f"<Stage of {self.spec.architecture} layers {self.span}: {self.numerics}>"

    @classmethod
    def load(
        cls,
        directory: Path,
        span: LayerSpan | None = None,
        precision: str = "bf16",
        device: str = "cpu",
        cache_bytes: int | None = None,
        progress: Progress | None = None,
        numerics: str = "native",
        held: Mapping[int, Layer] | None = None,
    ) -> Stage:
        """Read a span's tensors (None: all layers) and no others, each checked against the manifest.

        Layers in `held`, of another stage of this model, precision and device, are not read again.
        Raises ModelFault naming file and tensor, UsageFault naming the precision or device.
        """
        checkpoint = open_checkpoint(directory)
        spec = checkpoint.spec
        plan = plan_named(precision, numerics, spec.layer_count)
        span = spec.check_span(span or spec.span, str(checkpoint.source))
        slots = {name: slot for layer in span for name, slot in stacked_tensors(spec, layer).items()}
        tensors, manifest = checkpoint.tensors(spec.family.optional_prefix, slots), checkpoint.manifest()
        shapes = {name: shape for layer in span for name, shape in layer_tensors(spec, layer).items()}
        source = VerifiedSource(tensors, manifest, shapes | token_tensors(spec), progress)
        with source:
            return cls._build(spec, span, plan, device, cache_bytes, source, manifest, held)

    @classmethod
    def random(
        cls,
        spec: ModelSpec,
        span: LayerSpan,
        precision: str = "bf16",
        device: str = "cpu",
        cache_bytes: int | None = None,
        seed: int = 0,
        numerics: str = "native",
    ) -> Stage:
        """Random weights of a given shape: for measurements."""
        span = spec.check_span(span, spec.architecture)
        plan = plan_named(precision, numerics, spec.layer_count)
        return cls._build(spec, span, plan, device, cache_bytes, RandomSource(seed), None)

    @classmethod
    def _build(
        cls,
        spec: ModelSpec,
        span: LayerSpan,
        plan: PrecisionPlan,
        device: str,
        cache_bytes: int | None,
        source: Source,
        manifest: Manifest | None,
        held: Mapping[int, Layer] | None = None,
    ) -> Stage:
        place = place_of(plan, device)
        settle_threads()
        if spec.both_ways and plan.between.cache:
            raise UsageFault(
                f"--precision {plan.name}: {spec.architecture} keeps no keys and values, so leave out its cache"
            )
        if cache_bytes is None:
            cache_bytes = DEFAULT_CACHE_ROWS * row_bytes(spec, span, plan.name)
            cache_bytes += DEFAULT_SESSIONS * session_bytes(spec, span, plan.name, spec.max_positions)
        with torch.inference_mode():
            layers, known, host = [], held or {}, loading_place(plan, place)
            for layer in span:
                layers.append(known.get(layer) or build_layer(spec, layer, source, plan.of(layer), host))
                source.release()
            tokens = build_token_inputs(spec, span, source, plan, host)
            decoder = Decoder(spec, span, layers, plan.between, tokens, place)
        between = plan.between
        row_shapes = [spec.kinds[layer].row_shape for layer in span]
        shapes = [(kv_heads, between.cached_width(head_dim)) for kv_heads, head_dim in row_shapes]
        if spec.both_ways:
            shapes = [(0, 0)] * len(span)
        states = [state_shape(spec, layer) for layer in span]
        kept = span, shapes, between.cache_dtype, place, cache_bytes, spec.max_positions
        pool = CachePool(*kept, states, between.portable, between.dtype)
        return cls(decoder, pool, place, manifest)

    @property
    def layers(self) -> dict[int, Layer]:
        """Those that are loaded, by their numbers."""
        return dict(zip(self.span, self.decoder.layers, strict=True))

    def open(self, max_rows: int, span: LayerSpan | None = None) -> SessionCache:
        """A session's cache, over all layers or some. Raises Overloaded with numbers, UsageFault."""
        bond = held_in_part(span or self.span, self.spec.bonds)
        if bond is not None:
            raise UsageFault(f"a session over layers {span}: of layers {bond} it takes all or none")
        return self.pool.open(max_rows, span)

    def copies(self, rows: int, span: LayerSpan) -> list[LayerSpan]:
        """The layers of one call each in which so many rows of a session are copied."""
        most = max(self.pool.row_bytes(LayerSpan(layer, layer + 1)) for layer in span)
        layers = max(1, COPY_BYTES // max(1, rows * most))
        return [LayerSpan(first, min(first + layers, span.stop)) for first in range(span.start, span.stop, layers)]

    @torch.inference_mode()
    def copy(self, cache: SessionCache, parent: SessionCache, rows: int, layers: LayerSpan) -> None:
        """Some layers of another session's first rows into an empty cache, bit for bit. Raises UsageFault."""
        cache.copy(parent, rows, layers)

    @torch.inference_mode()
    def chunk(self, cache: SessionCache, rows: Tensor) -> Tensor:
        """Rows at the cache's position onwards, computed together, [rows, width] -> [rows, width]."""
        self._check(cache, rows)
        if self.spec.both_ways:
            return self._whole(cache, rows)
        if rows.shape[0] > CHUNK_ROWS:
            raise UsageFault(f"a chunk of {rows.shape[0]} rows: at most {CHUNK_ROWS} are computed together")
        cache.begin(rows.shape[0])
        computed = self.decoder.chunk(cache, rows)
        cache.advance(rows.shape[0], whole_chunk=rows.shape[0] == CHUNK_ROWS)
        return computed

    def _whole(self, cache: SessionCache, rows: Tensor) -> Tensor:
        if cache.position:
            late = f"rows {cache.position} and on come too late"
            raise UsageFault(f"{self.spec.architecture} takes a text at once: {late}")
        computed = self.decoder.whole(cache.span, rows)
        cache.advance(rows.shape[0])
        return computed

    @torch.inference_mode()
    def decode(self, work: Sequence[tuple[SessionCache, Tensor]]) -> list[Tensor]:
        """For each session, rows at its cache's position onwards, each for itself: [rows, width] -> [rows, width].

        A row's bits are the same alone, among other sessions' rows, and in a replay of many rows at once.
        """
        if len({id(cache) for cache, _ in work}) != len(work):
            raise LocalFault("a session stands twice in one batch")
        if self.spec.both_ways:
            raise UsageFault(f"{self.spec.architecture} takes a text at once, and generates none")
        for cache, rows in work:
            self._check(cache, rows)
        for cache, rows in work:
            cache.begin(rows.shape[0])
        spans = {cache.span for cache, _ in work}
        if len(spans) == 1:
            return self._decode(work)
        done: dict[int, Tensor] = {}
        for span in spans:
            chosen = [index for index, (cache, _) in enumerate(work) if cache.span == span]
            done.update(zip(chosen, self._decode([work[index] for index in chosen]), strict=True))
        return [done[index] for index in range(len(work))]

    def _decode(self, work: Sequence[tuple[SessionCache, Tensor]]) -> list[Tensor]:
        caches = [cache for cache, rows in work for _ in range(rows.shape[0])]
        positions = [cache.position + row for cache, rows in work for row in range(rows.shape[0])]
        sizes = [rows.shape[0] for _, rows in work]
        x = work[0][1] if len(work) == 1 else torch.cat([rows for _, rows in work])
        most = CHUNK_ROWS if self._any_cut else PASS_ROWS
        parts = [
            self.decoder.decode(caches[start : start + most], positions[start : start + most], part)
            for start, part in zip(range(0, len(caches), most), torch.split(x, most), strict=True)
        ]
        for (cache, _), size in zip(work, sizes, strict=True):
            cache.advance(size)
        return list(torch.split(parts[0] if len(parts) == 1 else torch.cat(parts), sizes))

    def rows(self, tensor: wire.Tensor) -> Tensor:
        """Rows as they came over the wire. Raises UsageFault naming dtypes and shapes."""
        return conversion.from_wire(tensor, self.width, self.decoder.precision, self.device)

    def tensor(self, rows: Tensor) -> wire.Tensor:
        """Rows as they go over the wire."""
        return conversion.to_wire(rows, self.decoder.precision)

    def _check(self, cache: SessionCache, rows: Tensor) -> None:
        if rows.dim() != 2 or rows.shape[0] < 1 or rows.shape[1] != self.width:
            raise UsageFault(f"rows of shape {list(rows.shape)}; this model takes [rows, {self.width}]")
        if rows.dtype != self.dtype:
            raise UsageFault(f"rows of {rows.dtype}; this stage computes in {self.precision}")
        cache.check_room(cache.position + rows.shape[0])


def place_of(plan: PrecisionPlan, device: str) -> torch.device:
    """The torch device of that name, for what is computed so. Raises UsageFault where it is not there, or cannot."""
    place = usable_device(device)
    if plan.portable and (reason := no_programs(place)) is not None:
        raise UsageFault(f"--numerics portable: {reason}: use --device cpu, or --numerics native")
    return place


def loading_place(plan: PrecisionPlan, place: torch.device) -> torch.device:
    """Where weights are made for what computes at that place: portable kernels pack them on the CPU."""
    return torch.device("cpu") if plan.portable else place


def usable_device(device: str) -> torch.device:
    """The torch device of that name. Raises UsageFault where it is not there."""
    try:
        place = torch.device(device)
        torch.empty(1, device=place)
    except (RuntimeError, AssertionError) as error:
        raise UsageFault(f"--device {device}: cannot be used here: {str(error).splitlines()[0]}") from error
    return place
