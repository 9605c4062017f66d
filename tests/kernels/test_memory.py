"""Reading memory: all of it is read, whatever the number of threads."""

from __future__ import annotations

import itertools
import mmap

import numpy as np
import pytest

from swarm.kernels import library


@pytest.mark.parametrize("count", [32, 4096, 100_000 * 32])
def test_every_number_is_read_once(count: int) -> None:
    kernels = library()
    assert kernels is not None
    with mmap.mmap(-1, count * 8) as pages:
        numbers = np.frombuffer(pages, dtype=np.uint64)
        numbers[:] = np.random.default_rng(count).integers(0, 1 << 63, count, dtype=np.uint64)
        total = int(numbers.sum(dtype=np.uint64))
        before = kernels.threads, kernels.path
        try:
            for threads, path in itertools.product((1, 3), kernels.paths()):
                kernels.set_threads(threads)
                kernels.choose(path)
                assert kernels.read(numbers.ctypes.data, count) == total
        finally:
            kernels.set_threads(before[0])
            kernels.choose(before[1])
        del numbers
