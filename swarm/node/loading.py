"""Loads spans of one model into memory: what fits, what may stand beside what is served, and what is kept of before."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from swarm.config import SpanConfig, WorkerConfig
from swarm.engine.backends import Model, Stage
from swarm.engine.compute_thread import ComputeThread
from swarm.engine.row_tensors import zero_rows
from swarm.errors import UsageFault
from swarm.node.precision import CACHE_SHARE, SESSION_ROWS, layer_sizes
from swarm.routing.placement import at_most, fitting_spans
from swarm.span import LayerSpan
from swarm.trace import Trace
from swarm.transport.memory_trim import trim_memory
from swarm.worker.capacity import Capacity

MEASURED_STEPS = 8  # decode steps of which the fastest says how many tokens a second the span does
MEASURED_SECONDS = 0.1  # after which no further one is taken
KEPT_SHARE = 0.25  # of what the weights of a span leave: so much may layers take that are no longer served


class Loader:
    """`await load(span, …)` gives a stage; `keep` its layers when they are served no more, so that going back costs nothing."""

    def __init__(
        self,
        opened: Model,
        serve: SpanConfig,
        precision: str,
        capacity: Capacity,
        device: str,
        thread: ComputeThread,
        config: WorkerConfig,
        trace: Trace,
        progress: Callable[[str], None],
    ) -> None:
        self._opened = opened
        self._serve = serve
        self._precision = precision
        self.room = capacity.memory_free  # bytes
        self._device = device
        self._thread = thread  # not the one that computes: what is served goes on meanwhile
        self._config = config
        self._trace = trace
        self._progress = progress
        self._weights = layer_sizes(opened, precision, 0)
        self._sizes = layer_sizes(opened, precision, SESSION_ROWS)
        self._kept: dict[int, Any] = {}  # layers that are served no more, those of the latest span last

    @property
    def kept(self) -> tuple[int, ...]:
        """Layers that are in memory without being served."""
        return tuple(sorted(self._kept))

    @property
    def spans(self) -> list[LayerSpan]:
        """For each layer the longest span from there on that may stand on this machine, beside a usual session's caches or, where
        none does, beside any."""
        bonds = self._opened.spec.bonds
        fitting = fitting_spans(self._sizes, self.room, bonds) or fitting_spans(self._weights, self.room, bonds)
        return at_most(fitting, self._serve.most_layers, bonds)

    def check_fit(self, span: LayerSpan) -> None:
        """Refuse before anything is loaded. Raises UsageFault with the numbers and the span that would fit."""
        needed = self._opened.footprint(span, self._precision)
        if needed <= self.room:
            return
        less = next((each for each in self.spans if each.start == span.start), None)
        advice = f"layers {less} would fit" if less else "no beginning of them would fit"
        raise UsageFault(
            f"layers {span} need {needed / 2**20:.0f} MiB in {self._precision}, and {self.room / 2**20:.0f} MiB "
            f"may be used: {advice}"
        )

    def cache_bytes(self, span: LayerSpan) -> int:
        """That caches of a span may take, beside its weights and the layers that are kept."""
        return self._config.cache_bytes or int(self._left(span, self._kept) * CACHE_SHARE)

    def shared_bytes(self, old: Stage, span: LayerSpan) -> int | None:
        """That the caches of each may take while one is served and the other stands beside it: half of what both leave. None
        where that is too little: for sessions that run, or for one of usual length."""
        half = int(self._left(span, old.span) / 2 * CACHE_SHARE)
        usual = sum(self._sizes[layer] - self._weights[layer] for layer in span) * CACHE_SHARE
        if half <= 0 or half < old.pool.reserved or (usual <= self._left(span, ()) * CACHE_SHARE and half < usual):
            return None
        return min(half, self._config.cache_bytes or half)

    async def load(self, span: LayerSpan, cache_bytes: int | None = None, beside: Stage | None = None) -> Stage:
        """Layers that are kept, or that the stage beside it has, are not read again. Raises ModelFault, UsageFault."""
        choice = self._opened.numerics(self._serve.numerics, self._precision, self._device)
        if choice.reason is not None:
            self._trace.failed("engine.numerics", reason=choice.reason)
        self.check_fit(span)
        known = {**self._kept, **(beside.layers if beside is not None else {})}
        held = {layer: each for layer, each in known.items() if layer in span}
        del known
        if beside is not None:
            self._kept = {}  # room for both
        if len(held) < len(span):
            self._progress(f"loading layers {span}{_of_which(held)}")
        size = self.cache_bytes(span) if cache_bytes is None else cache_bytes
        opened, numerics = self._opened, choice.numerics
        stage = await self._thread.run(
            lambda: opened.load_stage(span, self._precision, self._device, size, numerics=numerics, held=held)
        )
        trim_memory()
        return stage

    def keep(self, layers: Mapping[int, Any], span: LayerSpan) -> None:
        """What was served until now and what was kept before, for as long as there is room beside `span`: the latest first."""
        left = self._left(span, ())
        usual = sum(self._sizes[layer] - self._weights[layer] for layer in span)
        room = min(left * KEPT_SHARE, left - usual)
        kept: dict[int, Any] = {}
        for layer, each in (*layers.items(), *reversed(self._kept.items())):
            needed = 0 if layer in span else self._weights[layer]
            if layer not in kept and needed <= room:
                kept[layer] = each
                room -= needed
        self._kept = dict(reversed(kept.items()))

    def settle(self, span: LayerSpan) -> None:
        """This is served, and nothing else: kept layers of it are no longer counted."""
        self._kept = {layer: each for layer, each in self._kept.items() if layer not in span}
        self.free()

    def free(self) -> None:
        """Memory of what was let go is free at once: a service and its parts refer to each other, and hold their weights until
        they are collected."""
        gc.collect()
        trim_memory()

    def _left(self, span: LayerSpan, beside: Iterable[int]) -> int:
        """Bytes that the weights of a span leave, and of these layers besides."""
        more = sum(self._weights[layer] for layer in beside if layer not in span)
        return self.room - self._opened.footprint(span, self._precision) - more


def _of_which(held: Mapping[int, Any]) -> str:
    return f" ({len(held)} of them are in memory)" if held else ""


def tokens_per_second(stage: Stage) -> float:
    """Rows a second through the span, one by one: the best of a few steps, measured on the device that serves."""
    cache = stage.open(MEASURED_STEPS + 1)
    row = zero_rows(1, stage.spec.width, stage.dtype, stage.device)
    best, start = float("inf"), time.perf_counter()
    for step in range(MEASURED_STEPS):
        if step > 1 and time.perf_counter() - start > MEASURED_SECONDS:
            break
        began = time.perf_counter()
        stage.tensor(stage.chunk(cache, row) if stage.spec.both_ways else stage.decode([(cache, row)])[0])
        if stage.spec.both_ways:
            cache.rollback(0)
        best = min(best, time.perf_counter() - began)
    cache.close()
    return 1.0 / best
