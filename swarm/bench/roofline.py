"""What memory allows: decoding one token reads every weight once, so read bandwidth bounds tokens a second.

Williams, Waterman and Patterson, "Roofline: an insightful visual performance model" (2009).
"""

from __future__ import annotations

import mmap
import time

import numpy as np
import torch

from swarm.kernels import library

READ_BYTES = 1 << 30
READS = 3  # of which the best counts: a read can only be disturbed


class Memory:
    """READ_BYTES of memory that are there to be read. `with Memory() as memory: memory.bandwidth()`."""

    def __init__(self, size: int = READ_BYTES) -> None:
        self.size = size
        self._pages: mmap.mmap | None = None

    def __enter__(self) -> Memory:
        self._pages = mmap.mmap(-1, self.size)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            self._pages.madvise(mmap.MADV_HUGEPAGE)
        np.frombuffer(self._pages, dtype=np.uint64)[:] = 1  # written, so that the pages exist
        return self

    def __exit__(self, *exc: object) -> None:
        if self._pages is not None:
            self._pages.close()
        self._pages = None

    def bandwidth(self) -> float:
        """Bytes a second: the best of a few reads by all threads that compute."""
        assert self._pages is not None
        words = np.frombuffer(self._pages, dtype=np.uint64)
        best = float("inf")
        for _ in range(READS):
            began = time.perf_counter()
            _read(words)
            best = min(best, time.perf_counter() - began)
        return self.size / best


def _read(words: np.ndarray[tuple[int], np.dtype[np.uint64]]) -> None:
    kernels = library()
    if kernels is None:
        torch.from_numpy(words.view(np.float32)).sum()
    else:
        kernels.read(words.ctypes.data, words.size)
