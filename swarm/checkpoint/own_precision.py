"""In which precision a model's files hold most of its weights."""

from __future__ import annotations

import math
from collections import Counter
from functools import lru_cache
from pathlib import Path

from swarm.checkpoint.gguf.tensors import Ggml
from swarm.checkpoint.stored_tensors import StoredTensors
from swarm.precision import AS_STORED

MAX_KNOWN = 16  # models that are remembered
MAX_FILES_LOOKED_AT = 2  # shards of one model are alike
_NAMES = {"F32": "fp32", "BF16": "bf16", "F16": "fp16"}


@lru_cache(MAX_KNOWN)
def own_precision(path: Path) -> str:
    """ "fp32", "bf16" or "fp16", whichever most numbers have; as-stored where files are quantised. Raises ModelFault."""
    tensors = StoredTensors.open(path)
    if tensors.format is not None and not isinstance(tensors.format, Ggml):
        return AS_STORED
    here = [name for name in tensors.file_names if (tensors.directory / name).exists()][:MAX_FILES_LOOKED_AT]
    numbers: Counter[str] = Counter()
    for name, file in tensors.file_of.items():
        if file in here:
            entry = tensors.file(name).entries[name]
            numbers[_NAMES.get(entry.dtype, AS_STORED)] += math.prod(entry.shape)
    return numbers.most_common(1)[0][0] if numbers else "bf16"
