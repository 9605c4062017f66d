"""What floors above ask of a model, a stage and a head, whoever computes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from swarm.checkpoint.manifest import Manifest, Progress
from swarm.engine.portable.choice import NumericsChoice
from swarm.span import LayerSpan
from swarm.wire import tensors as wire


class Sizes(Protocol):
    """What is known of a model before anything of it is loaded."""

    @property
    def architecture(self) -> str: ...

    @property
    def layer_count(self) -> int: ...

    @property
    def span(self) -> LayerSpan: ...

    @property
    def hidden(self) -> int: ...

    @property
    def width(self) -> int:
        """Of rows as they travel between layers: `hidden`, or more where they carry something besides."""

    @property
    def embedding_width(self) -> int:
        """Of the embedding, and of the rows that vectors are made of."""

    @property
    def vocab(self) -> int: ...

    @property
    def max_positions(self) -> int: ...

    @property
    def both_ways(self) -> bool:
        """Rows see those after them too: a text is computed at once, and none is generated."""

    @property
    def bonds(self) -> tuple[LayerSpan, ...]:
        """Layers that one worker holds all or none of."""

    def check_span(self, span: LayerSpan, source: str) -> LayerSpan:
        """The span itself. Raises ModelFault when it reaches outside the model, or cuts where that is impossible."""


class Pool(Protocol):
    """The byte budget that the sessions of one stage share."""

    budget: int
    reserved: int

    @property
    def tokens_free(self) -> int: ...

    def tokens_of(self, size: int) -> int:
        """Rows through all layers of the span that so many bytes take."""

    def needed(self, max_rows: int, span: LayerSpan) -> int:
        """Bytes that a session takes of the budget."""


class Stage(Protocol):
    """A span of layers ready to compute.

    Caches are what `open` gives: max_rows, position, holds, beginning, rollback, extend, settle, close.
    """

    span: LayerSpan
    hidden: int
    precision: str
    dtype: torch.dtype
    device: torch.device
    numerics: str
    weight_bytes: int

    @property
    def spec(self) -> Sizes: ...

    @property
    def pool(self) -> Pool: ...

    @property
    def layers(self) -> Mapping[int, Any]:
        """Those that another stage may be given, by their numbers."""

    def open(self, max_rows: int, span: LayerSpan | None = None) -> Any:
        """A session's cache, over all layers or some. Raises Overloaded with numbers, UsageFault."""

    def copies(self, rows: int, span: LayerSpan) -> list[LayerSpan]:
        """The layers of one call each in which so many rows of a session are copied."""

    def copy(self, cache: Any, parent: Any, rows: int, layers: LayerSpan) -> None:
        """Some layers of another session's first rows into an empty cache, bit for bit. Raises UsageFault."""

    def chunk(self, cache: Any, rows: Tensor) -> Tensor:
        """Rows at the cache's position onwards, computed together, [rows, hidden] -> [rows, hidden]."""

    def decode(self, work: Sequence[tuple[Any, Tensor]]) -> list[Tensor]:
        """For each session, rows at its cache's position onwards, each for itself, whoever shares the call."""

    def rows(self, tensor: wire.Tensor) -> Tensor:
        """Rows as they came over the wire. Raises UsageFault naming dtypes and shapes."""

    def tensor(self, rows: Tensor) -> wire.Tensor:
        """Rows as they go over the wire."""


class Head(Protocol):
    """What is computed before the first layer and after the last."""

    vocab: int
    precision: str
    device: torch.device
    numerics: str

    @property
    def spec(self) -> Sizes: ...

    @property
    def logits_bytes(self) -> int: ...

    @property
    def weight_bytes(self) -> int: ...

    def embed(self, ids: Sequence[int], start: int) -> Tensor:
        """[rows, hidden] of tokens at the positions from `start`. Raises UsageFault naming an id outside the vocabulary."""

    def logits(self, rows: Tensor) -> Tensor:
        """[rows, hidden] -> fp32 [rows, vocab] on CPU; a row's bits do not depend on its neighbours. Raises UsageFault."""

    def features(self, rows: Tensor) -> Tensor:
        """[rows, hidden] -> fp32 on CPU: rows of the last layer, normed as logits are made of them."""

    def rows(self, tensor: wire.Tensor) -> Tensor: ...

    def tensor(self, rows: Tensor) -> wire.Tensor: ...


class Model(Protocol):
    """A model directory, as one backend sees it."""

    @property
    def spec(self) -> Sizes: ...

    def manifest(self, progress: Progress | None = None) -> Manifest:
        """Raises ModelFault."""

    @property
    def own_precision(self) -> str:
        """In which its files hold most of its weights; as-stored where these are quantised. Raises ModelFault."""

    def footprint(self, span: LayerSpan, precision: str, cache_rows: int = 0, with_head: bool = False) -> int:
        """Bytes that a stage over `span` takes, with room for `cache_rows` rows of cache."""

    def numerics(self, asked: str, precision: str, device: str) -> NumericsChoice:
        """Whose kernels compute it, where that is left open ("auto") or not."""

    def load_stage(
        self,
        span: LayerSpan | None = None,
        precision: str = "bf16",
        device: str = "cpu",
        cache_bytes: int | None = None,
        progress: Progress | None = None,
        numerics: str = "auto",
        held: Mapping[int, Any] | None = None,
    ) -> Stage:
        """Read a span's tensors (None: all layers), but for layers that are held already: those of another stage of this model,
        precision and device. Raises ModelFault, UsageFault."""

    def load_head(
        self,
        precision: str = "bf16",
        device: str = "cpu",
        progress: Progress | None = None,
        numerics: str = "auto",
    ) -> Head:
        """Raises ModelFault, UsageFault."""
