"""The compiled kernels, left as they were found."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from swarm.kernels import Library, library


@pytest.fixture(scope="session")
def kernels() -> Library:
    found = library()
    assert found is not None, "the kernels were not built"
    return found


@pytest.fixture(autouse=True)
def as_before(kernels: Library) -> Iterator[None]:
    path, threads = kernels.path, kernels.threads
    yield
    kernels.choose(path)
    kernels.set_threads(threads)
