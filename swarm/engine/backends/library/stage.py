"""A span of the library's layers, as our own engine's stage is used. Its methods run on one compute thread.

A chunk is one call with exactly its rows; a decode row is a call of its own against its own session's cache, so that neither
company nor what is computed with it in one message changes a bit. Knows nothing of sessions' owners or of the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from swarm.checkpoint.manifest import Manifest, Progress
from swarm.checkpoint.stored_tensors import StoredTensors
from swarm.engine import conversion
from swarm.engine.backends.library.anatomy import Anatomy, Call, Enough
from swarm.engine.backends.library.cache import Pool, SpanCache
from swarm.engine.backends.library.outline import Outline
from swarm.engine.backends.library.runner import anatomy_of, load_layers, manifest_of, numerics_of
from swarm.engine.numerics import CHUNK_ROWS, Precision, precision_named, settle_threads
from swarm.engine.stage import COPY_BYTES, DEFAULT_CACHE_ROWS, usable_device
from swarm.errors import LocalFault, ModelFault, UsageFault
from swarm.span import LayerSpan
from swarm.wire import tensors as wire

TRIAL_ROWS = 4
TRIAL_SEED = 0
TRIAL_TOLERANCE = {
    "fp32": 0.01,
    "bf16": 0.3,
}  # of what layers change; rows that see what comes after them differ by more


class LibraryStage:
    """`chunk` computes a prompt's rows together, `decode` rows that each stand for themselves."""

    def __init__(
        self,
        anatomy: Anatomy,
        outline: Outline,
        span: LayerSpan,
        pool: Pool,
        precision: Precision,
        device: torch.device,
        manifest: Manifest,
    ) -> None:
        self.spec = outline
        self.span = span
        self.pool = pool
        self.device = device
        self.manifest = manifest
        self.hidden = outline.hidden
        self.precision = precision.name
        self.dtype = precision.dtype
        self.numerics = numerics_of(anatomy, precision, device)
        self.weight_bytes = sum(
            each.nbytes
            for layer in span
            for each in (*anatomy.layers[layer].parameters(), *anatomy.layers[layer].buffers())
        )
        self._anatomy = anatomy
        self._exactly = precision
        self._width = anatomy.model.get_input_embeddings().weight.shape[1]
        self._made: Tensor | None = None

    def __repr__(self) -> str:
        return f"<LibraryStage of {self.spec.architecture} layers {self.span}: {self.numerics}>"

    @classmethod
    def load(
        cls,
        outline: Outline,
        directory: Path,
        span: LayerSpan | None = None,
        precision: str = "bf16",
        device: str = "cpu",
        cache_bytes: int | None = None,
        progress: Progress | None = None,
    ) -> LibraryStage:
        """Read a span's tensors (None: all layers) and no others, each checked against the manifest, and try them.

        Raises ModelFault naming file and tensor, or what does not fit; UsageFault naming the precision or device.
        """
        directory, exactly = Path(directory), precision_named(precision)
        span = outline.check_span(span or outline.span, outline.source)
        checkpoint, manifest = StoredTensors.open(directory), manifest_of(directory, outline)
        place = usable_device(device)
        settle_threads()
        with torch.inference_mode():
            anatomy = anatomy_of(directory, outline, exactly)
            load_layers(anatomy, span, checkpoint, manifest, place, progress)
        row_bytes = outline.row_bytes(precision)
        if cache_bytes is None:
            cache_bytes = DEFAULT_CACHE_ROWS * sum(row_bytes[layer] for layer in span)
        pool = Pool(span, row_bytes, cache_bytes, outline.max_positions)
        stage = cls(anatomy, outline, span, pool, exactly, place, manifest)
        stage.try_layers()
        return stage

    @property
    def layers(self) -> Mapping[int, Any]:
        """None: the library's layers belong to the one module that they were read into."""
        return {}

    def open(self, max_rows: int, span: LayerSpan | None = None) -> SpanCache:
        """A session's cache, over all layers or some. Raises Overloaded with numbers, UsageFault."""
        return self.pool.open(max_rows, span)

    def copies(self, rows: int, span: LayerSpan) -> list[LayerSpan]:
        """The layers of one call each in which so many rows of a session are copied."""
        layers = max(1, COPY_BYTES // (rows * max(self.pool.row_bytes)))
        return [LayerSpan(first, min(first + layers, span.stop)) for first in range(span.start, span.stop, layers)]

    @torch.inference_mode()
    def copy(self, cache: SpanCache, parent: SpanCache, rows: int, layers: LayerSpan) -> None:
        """Some layers of another session's first rows into an empty cache, bit for bit. Raises UsageFault."""
        cache.copy(parent, rows, layers)

    @torch.inference_mode()
    def chunk(self, cache: SpanCache, rows: Tensor) -> Tensor:
        """Rows at the cache's position onwards, computed together, [rows, hidden] -> [rows, hidden]."""
        self._check(cache, rows)
        if rows.shape[0] > CHUNK_ROWS:
            raise UsageFault(f"a chunk of {rows.shape[0]} rows: at most {CHUNK_ROWS} are computed together")
        return self._forward(cache, rows)

    @torch.inference_mode()
    def decode(self, work: Sequence[tuple[SpanCache, Tensor]]) -> list[Tensor]:
        """For each session, rows at its cache's position onwards, each for itself: [rows, hidden] -> [rows, hidden].

        A row's bits are the same alone, among other sessions' rows, and in a replay of many rows at once.
        """
        if len({id(cache) for cache, _ in work}) != len(work):
            raise LocalFault("a session stands twice in one batch")
        for cache, rows in work:
            self._check(cache, rows)
        return [torch.cat([self._forward(cache, row) for row in torch.split(rows, 1)]) for cache, rows in work]

    def rows(self, tensor: wire.Tensor) -> Tensor:
        """Rows as they came over the wire. Raises UsageFault naming dtypes and shapes."""
        return conversion.from_wire(tensor, self.hidden, self._exactly, self.device)

    def tensor(self, rows: Tensor) -> wire.Tensor:
        """Rows as they go over the wire."""
        return conversion.to_wire(rows, self._exactly)

    def try_layers(self) -> None:
        """Whether layers keep to what a chain rests on. Raises ModelFault saying what they do instead.

        A row must see those before it and no others, and nothing but the cache may remember it.
        """
        count = min(TRIAL_ROWS, self.spec.max_positions)
        pool = Pool(self.span, self.pool.row_bytes, self.pool.needed(count, self.span) * 2, self.spec.max_positions)
        rows = torch.randn(count, self.hidden, generator=torch.Generator().manual_seed(TRIAL_SEED))
        rows = rows.to(device=self.device, dtype=self.dtype)
        together, alone = pool.open(count), pool.open(count)
        try:
            chunk = self.chunk(together, rows)
            (steps,) = self.decode([(alone, rows)])
            alone.rollback(1)
            (again,) = self.decode([(alone, rows[1:])])
        except ModelFault:
            raise
        except Exception as error:  # whatever the library's code stumbles on where it holds some layers only
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelFault(
                f"{self.spec.source}: layers {self.span} cannot be computed by themselves: {said}"
            ) from error
        if not torch.equal(again, steps[1:]):
            raise ModelFault(f"{self.spec.source}: layers {self.span} remember rows that were taken back")
        changed = (steps.float() - rows.float()).norm().clamp_min(torch.finfo(torch.float32).tiny)
        difference = float((chunk.float() - steps.float()).norm() / changed)
        if not difference <= TRIAL_TOLERANCE[self.precision]:
            raise ModelFault(
                f"{self.spec.source}: layers {self.span} give other rows together than one after another "
                f"(they differ by {difference:.2g} of what changes): this is no decoder whose rows see only those before them"
            )

    def _check(self, cache: SpanCache, rows: Tensor) -> None:
        if rows.dim() != 2 or rows.shape[0] < 1 or rows.shape[1] != self.hidden:
            raise UsageFault(f"rows of shape {list(rows.shape)}; this model takes [rows, {self.hidden}]")
        if rows.dtype != self.dtype:
            raise UsageFault(f"rows of {rows.dtype}; this stage computes in {self.precision}")
        cache.check_room(cache.position + rows.shape[0])

    def _forward(self, cache: SpanCache, rows: Tensor) -> Tensor:
        """One call of the library, over the layers of that session."""
        first = rows[None].clone()  # a row of many may lie in memory as none that came alone does
        for layer in self._anatomy.span:
            if layer in cache.span:
                self._anatomy.put(layer, partial(self._layer, layer, cache.span, first))
            else:
                self._anatomy.pass_through([layer])
        nothing = torch.zeros(1, rows.shape[0], self._width, dtype=self.dtype, device=self.device)
        self._made = None
        self._anatomy.run(self._anatomy.decoder, nothing, cache.position, cache.past())
        made = self._made
        if made is None or made.shape[1:] != rows.shape or made.dtype != self.dtype:
            found = "nothing" if made is None else f"{made.dtype} {list(made.shape)}"
            raise ModelFault(
                f"{self.spec.source}: layers {cache.span} hand on {found} for {rows.dtype} {list(rows.shape)}"
            )
        cache.position += rows.shape[0]
        return made[0]

    def _layer(self, layer: int, span: LayerSpan, rows: Tensor, *given: Any, **named: Any) -> Any:
        """In a layer's place: the first gets the session's rows instead of what stands before it here; the last ends the call."""
        call = Call.of(given, named)
        made = self._anatomy.real(layer, Call(rows, call.others, call.named) if layer == span.start else call)
        if layer == span.stop - 1:
            self._made = made[0] if isinstance(made, tuple | list) else made
            raise Enough
        return made
