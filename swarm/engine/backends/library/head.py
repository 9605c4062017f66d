"""What the library computes before the first layer and after the last, as our own engine's head is used.

Knows nothing of sampling or of text.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache

from swarm.checkpoint.manifest import Manifest, Progress
from swarm.checkpoint.stored_tensors import StoredTensors
from swarm.engine import conversion
from swarm.engine.backends.library.anatomy import Anatomy, Call, Enough
from swarm.engine.backends.library.cache import Elsewhere
from swarm.engine.backends.library.outline import Outline
from swarm.engine.backends.library.runner import anatomy_of, load_outside, manifest_of, numerics_of
from swarm.engine.numerics import CHUNK_ROWS, Precision, precision_named, settle_threads
from swarm.engine.stage import usable_device
from swarm.errors import ModelFault, UsageFault
from swarm.wire import tensors as wire


class LibraryHead:
    """Embedding, positions, final norm and language-model head, whatever of these the model has."""

    def __init__(
        self, anatomy: Anatomy, outline: Outline, precision: Precision, device: torch.device, manifest: Manifest
    ) -> None:
        self.spec = outline
        self.vocab = outline.vocab
        self.precision = precision.name
        self.device = device
        self.manifest = manifest
        self.numerics = numerics_of(anatomy, precision, device)
        self._exactly = precision
        self._anatomy = anatomy
        self._ids = anatomy.model.get_input_embeddings().weight.shape[0]
        self._caught: Tensor | None = None
        head = anatomy.model.get_output_embeddings()
        linear = any(isinstance(module, nn.Linear) and module is not head for _, module in anatomy.outside())
        self._together = 1 if linear else CHUNK_ROWS  # ids embedded in one call: a matrix product's bits depend on that

    def __repr__(self) -> str:
        return f"<LibraryHead of {self.spec.architecture}, vocabulary {self.vocab}: {self.numerics}>"

    @classmethod
    def load(
        cls,
        outline: Outline,
        directory: Path,
        precision: str = "bf16",
        device: str = "cpu",
        progress: Progress | None = None,
    ) -> LibraryHead:
        """Raises ModelFault naming file and tensor, UsageFault naming the precision or device."""
        directory, exactly = Path(directory), precision_named(precision)
        checkpoint, manifest = StoredTensors.open(directory), manifest_of(directory, outline)
        place = usable_device(device)
        settle_threads()
        with torch.inference_mode():
            anatomy = anatomy_of(directory, outline, exactly)
            load_outside(anatomy, checkpoint, manifest, place, progress)
        return cls(anatomy, outline, exactly, place, manifest)

    @property
    def logits_bytes(self) -> int:
        """Memory read to compute one row's logits."""
        return sum(weight.nbytes for weight in self._anatomy.model.get_output_embeddings().parameters())

    @property
    def weight_bytes(self) -> int:
        """Memory held by weights, in the page cache where they are used from their files."""
        seen = {
            id(weight): weight.nbytes for _, module in self._anatomy.outside() for weight in module.parameters(False)
        }
        return sum(seen.values())

    @torch.inference_mode()
    def embed(self, ids: Sequence[int], start: int = 0) -> Tensor:
        """[rows, hidden] of ids at that position and onwards. Raises UsageFault naming an id outside the vocabulary."""
        if not ids:
            raise UsageFault("no tokens were given: a prompt has at least one")
        for id_ in (min(ids), max(ids)):
            if not 0 <= id_ < self._ids:
                raise UsageFault(f"token id {id_} is outside the vocabulary of {self._ids}")
        parts = [ids[first : first + self._together] for first in range(0, len(ids), self._together)]
        return torch.cat([self._embed(part, start + index * self._together) for index, part in enumerate(parts)])

    @torch.inference_mode()
    def logits(self, rows: Tensor) -> Tensor:
        """[rows, hidden] -> fp32 [rows, vocab] on CPU; a row's bits do not depend on its neighbours."""
        self._check(rows)
        return torch.cat([self._after(row, None).logits[0].float().cpu() for row in torch.split(rows, 1)])

    @torch.inference_mode()
    def features(self, rows: Tensor) -> Tensor:
        """[rows, width] fp32 on CPU: what the logits are made of."""
        self._check(rows)
        found = [self._features(row) for row in torch.split(rows, 1)]
        return torch.cat(found).float().cpu()

    def rows(self, tensor: wire.Tensor) -> Tensor:
        """Rows as they came over the wire. Raises UsageFault naming dtypes and shapes."""
        return conversion.from_wire(tensor, self.spec.hidden, self._exactly, self.device)

    def tensor(self, rows: Tensor) -> wire.Tensor:
        """Rows as they go over the wire."""
        return conversion.to_wire(rows, self._exactly)

    def _embed(self, ids: Sequence[int], start: int) -> Tensor:
        self._anatomy.stand_in(0, self._catch)
        past = Cache(layers=[Elsewhere(start) for _ in self._anatomy.span])
        self._anatomy.run(self._anatomy.model, torch.tensor([ids], device=self.device), start, past)
        return self._taken()

    def _after(self, row: Tensor, head: Any) -> Any:
        """The model's forward pass as if its last layer had made that row; with another head if one is given."""
        last = self._anatomy.span.stop - 1
        self._anatomy.pass_through(range(last))
        self._anatomy.stand_in(last, lambda call: row[None])
        module = self._anatomy.model.get_output_embeddings()
        if head is not None:
            module.forward = head
        try:
            return self._anatomy.run(
                self._anatomy.model, torch.zeros(1, 1, dtype=torch.int64, device=self.device), 0, None
            )
        finally:
            if head is not None:
                del module.forward

    def _features(self, row: Tensor) -> Tensor:
        self._after(row, lambda given: self._catch(Call(given, (), {})))
        return self._taken()

    def _catch(self, call: Call) -> Tensor:
        self._caught = call.rows
        raise Enough

    def _taken(self) -> Tensor:
        caught, self._caught = self._caught, None
        if caught is None or caught.dtype != self._exactly.dtype:
            found = "nothing" if caught is None else f"{caught.dtype}"
            raise ModelFault(
                f"{self.spec.source}: {found} came before the first layer, or after the last, in {self.precision}"
            )
        return caught[0]

    def _check(self, rows: Tensor) -> None:
        if rows.dim() != 2 or rows.shape[1] != self.spec.hidden or rows.dtype != self._exactly.dtype:
            raise UsageFault(
                f"rows of {rows.dtype} {list(rows.shape)}; this head takes {self.precision} [rows, {self.spec.hidden}]"
            )
