"""What tensors take in memory where they are computed as files hold them. Files' headers are read, no weights."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

from swarm.checkpoint import open_checkpoint
from swarm.checkpoint.stored_tensors import FLOATS, StoredTensors
from swarm.errors import ModelFault
from swarm.kernels.library import BLOCKS
from swarm.model.tensor_names import Shape, stacked_tensors

MAX_MODELS = 16  # that are remembered
MAX_SIZES = 1 << 18  # of tensors of one model
WIDENED = {"MXFP4": 2}  # kinds that become another, and how many times the bytes of the file that takes
MADE = 2  # bytes of a number that is made bf16
VECTOR = 4  # of one that belongs to no matrix, which is fp32


class StoredSizes:
    """Of one model."""

    def __init__(self, tensors: StoredTensors) -> None:
        self._tensors = tensors
        self._sizes: dict[str, int] = {}  # at most MAX_SIZES

    def __call__(self, name: str, shape: Shape) -> int:
        """Bytes of a tensor; as many as in bf16 where its file is elsewhere, as a client's may be."""
        if name not in self._sizes:
            if len(self._sizes) >= MAX_SIZES:
                self._sizes.clear()
            self._sizes[name] = self._size(name, shape)
        return self._sizes[name]

    def _size(self, name: str, shape: Shape) -> int:
        if len(shape) < 2:
            return VECTOR * math.prod(shape)
        try:
            stored = self._tensors.stored_size(name, shape)
        except ModelFault:  # whoever loads it says which
            stored = None
        if stored is None or stored[0] not in (*BLOCKS, *FLOATS, *WIDENED):
            return MADE * math.prod(shape)
        return WIDENED.get(stored[0], 1) * stored[1]


@lru_cache(MAX_MODELS)
def stored_sizes(directory: Path) -> StoredSizes:
    """Raises ModelFault naming the file."""
    checkpoint = open_checkpoint(directory)
    spec = checkpoint.spec
    slots = {name: slot for layer in spec.span for name, slot in stacked_tensors(spec, layer).items()}
    return StoredSizes(checkpoint.tensors(spec.family.optional_prefix, slots))
