"""The client's part of a model: ids to rows before the first layer, rows to logits after the last.

Knows nothing of sampling or of text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from swarm.checkpoint import open_checkpoint
from swarm.checkpoint.manifest import Manifest, Progress
from swarm.engine import conversion
from swarm.engine.embedding import Embedding
from swarm.engine.layers.linear import Linear
from swarm.engine.layers.norm import Norm
from swarm.engine.layers.token_digits import with_ids
from swarm.engine.loading.parts import build_linear, build_norm, matrix_of
from swarm.engine.loading.sources import RandomSource, Source, VerifiedSource
from swarm.engine.loading.stored import stored_linear
from swarm.engine.numerics import Precision, PrecisionPlan, numerics_class, plan_named, settle_threads
from swarm.engine.portable.activations import entries
from swarm.engine.stage import loading_place, place_of
from swarm.errors import UsageFault
from swarm.model.spec import ModelSpec
from swarm.model.tensor_names import Shape, head_tensors
from swarm.wire import tensors as wire


def _logits(source: Source, name: str, shape: Shape, precision: Precision, device: torch.device) -> Linear:
    """The layer that gives logits."""
    logits = precision if precision.stored else precision.logits
    if precision.portable:
        return stored_linear([matrix_of(source, name, shape, logits)], shape[:1], shape[1], None, None, logits)
    weight = source.tensor(name, shape).to(device=device, dtype=logits.weight_dtype)
    return build_linear(weight, None, logits)


def on_device(linear: Linear, place: torch.device) -> Linear:
    """The same portable layer, computed there."""
    # Imported here because Triton, which it needs, is no dependency where CPUs compute
    from swarm.engine.portable.device.linear import UploadedLinear

    return UploadedLinear(linear, place)


class Head:
    """Embedding, final norm and language-model head."""

    def __init__(
        self,
        spec: ModelSpec,
        embedding: Embedding,
        norm: Norm | None,
        projection: Linear | None,
        linear: Linear | None,
        between: Precision,
        device: torch.device,
        manifest: Manifest | None,
    ) -> None:
        self.spec = spec
        self.vocab = spec.vocab
        self.precision = between.name
        self.device = device
        self.manifest = manifest  # None where the weights are random
        self.numerics = numerics_class(between, device)
        self._embedding = embedding
        self._norm = norm  # of rows after the last layer
        self._projection = projection  # to the width of the embedding, where that is another
        self._linear = linear  # hidden -> vocab; None: no tokens come out of this model
        self._exactly = between

    def __repr__(self) -> str:
        return f"<Head of {self.spec.architecture}, vocabulary {self.spec.vocab}: {self.numerics}>"

    @classmethod
    def load(
        cls,
        directory: Path,
        precision: str = "bf16",
        device: str = "cpu",
        progress: Progress | None = None,
        numerics: str = "native",
    ) -> Head:
        """Raises ModelFault naming file and tensor, UsageFault naming the precision or device."""
        checkpoint = open_checkpoint(directory)
        spec = checkpoint.spec
        plan = plan_named(precision, numerics, spec.layer_count)
        tensors, manifest = checkpoint.tensors(spec.family.optional_prefix), checkpoint.manifest()
        if spec.tied and spec.family.head is not None:
            weights = (f"{spec.family.head}.weight", f"{spec.family.embedding}.weight")
            if tensors.same(manifest.tensors, *weights) is False:
                # The config says that the head is the embedding, and the files hold another: that one, as transformers takes it
                spec = replace(spec, tied=False)
        return cls._build(spec, plan, device, VerifiedSource(tensors, manifest, head_tensors(spec), progress), manifest)

    @classmethod
    def random(
        cls, spec: ModelSpec, precision: str = "bf16", device: str = "cpu", seed: int = 0, numerics: str = "native"
    ) -> Head:
        """Random weights of a given shape: for measurements."""
        plan = plan_named(precision, numerics, spec.layer_count)
        return cls._build(spec, plan, device, RandomSource(seed), None)

    @classmethod
    def _build(
        cls, spec: ModelSpec, plan: PrecisionPlan, device: str, source: Source, manifest: Manifest | None
    ) -> Head:
        computing = place_of(plan, device)
        place = loading_place(plan, computing)
        settle_threads()
        shapes, family, precision = head_tensors(spec), spec.family, plan.last
        floats = precision.floats
        with torch.inference_mode():

            def norm(module: str | None) -> Norm | None:
                return build_norm(spec, module, shapes, source, precision, place) if module else None

            def projection(module: str | None) -> Linear | None:
                if spec.embedding_width == spec.hidden:
                    return None
                weight = source.tensor(name := f"{module}.weight", shapes[name])
                return build_linear(weight.to(device=place, dtype=floats.weight_dtype), None, floats)

            # Left in the file: an answer touches a few rows of it, and processes share the pages
            table = source.table(name := f"{family.embedding}.weight", shapes[name], precision.inner)
            positions = None
            if family.positions:
                positions = source.table(name := f"{family.positions}.weight", shapes[name], precision.inner)
            token_type = None
            if family.token_types:
                types = source.tensor(name := f"{family.token_types}.weight", shapes[name])
                token_type = types[:1].to(device=place, dtype=precision.inner, copy=True)
            into, norm_first = projection(family.embedding_projection), norm(family.embedding_norm)
            embedding = Embedding(spec, table, positions, token_type, into, norm_first, precision.inner, place)
            linear = None
            if family.head:
                name = f"{family.embedding if spec.tied else family.head}.weight"
                linear = _logits(source, name, shapes[name], precision, place)
                linear = linear if computing == place else on_device(linear, computing)
            final, out = norm(family.final_norm), projection(family.head_projection)
        return cls(spec, embedding, final, out, linear, plan.between, place, manifest)

    @property
    def logits_bytes(self) -> int:
        """Memory read to compute one row's logits, or those of a few rows."""
        return 0 if self._linear is None else self._linear.bytes

    @property
    def weight_bytes(self) -> int:
        """Memory held by weights; the embedding is in the page cache, where its format lets rows be read alone."""
        parts = (self._embedding, self._norm, self._projection)
        return self.logits_bytes + sum(part.bytes for part in parts if part is not None)

    @torch.inference_mode()
    def embed(self, ids: Sequence[int], start: int) -> Tensor:
        """[rows, width] of tokens at the positions from `start`. Raises UsageFault naming an id outside the vocabulary."""
        rows = self._embedding.rows(ids, start).to(self._exactly.dtype)
        return with_ids(rows, ids) if self.spec.token_width else rows

    @torch.inference_mode()
    def logits(self, rows: Tensor) -> Tensor:
        """[rows, width] -> fp32 [rows, vocab] on CPU; a row's bits do not depend on its neighbours. Raises UsageFault."""
        self._check(rows)
        if self._linear is None:
            raise UsageFault(f"{self.spec.architecture} gives rows and no tokens")
        logits = self._linear.decode(self._normed(rows)).float().cpu()
        if self.spec.logit_divisor != 1.0:
            logits = logits / self.spec.logit_divisor
        if self.spec.logit_softcap is not None:
            logits = self._tangents(logits / self.spec.logit_softcap) * self.spec.logit_softcap
        return logits

    @torch.inference_mode()
    def features(self, rows: Tensor) -> Tensor:
        """[rows, width] -> fp32 [rows, hidden] on CPU: rows of the last layer, normed as logits are made of them."""
        self._check(rows)
        return self._normed(rows).float().cpu()

    def _tangents(self, x: Tensor) -> Tensor:
        if self._exactly.portable:
            return entries("tanh", x)
        # Row by row: a tangent's bits depend on its place in a call
        return torch.cat([torch.tanh(row) for row in torch.split(x, 1)])

    def _normed(self, rows: Tensor) -> Tensor:
        rows = rows[:, : self.spec.hidden].to(device=self.device, dtype=self._exactly.inner).contiguous()
        rows = rows if self._norm is None else self._norm.compute(rows)
        return rows if self._projection is None else self._projection.decode(rows)

    def _check(self, rows: Tensor) -> None:
        if rows.dim() != 2 or rows.shape[1] != self.spec.width or rows.dtype != self._exactly.dtype:
            raise UsageFault(
                f"rows of {rows.dtype} {list(rows.shape)}; this head takes {self.precision} [rows, {self.spec.width}]"
            )

    def rows(self, tensor: wire.Tensor) -> Tensor:
        """Rows as they came over the wire. Raises UsageFault naming dtypes and shapes."""
        return conversion.from_wire(tensor, self.spec.width, self._exactly, self.device)

    def tensor(self, rows: Tensor) -> wire.Tensor:
        """Rows as they go over the wire."""
        return conversion.to_wire(rows, self._exactly)
