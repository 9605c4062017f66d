"""Triton's interpreter, which computes with numpy what a GPU would, against plain C."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from swarm.kernels import Library, library


@pytest.fixture
def plain() -> Iterator[Library]:
    """The definition. Infinities and what is no number are computed with on purpose."""
    found = library()
    assert found is not None, "the kernels were not built"
    path = found.path
    found.choose("plain")
    with np.errstate(all="ignore"):
        yield found
    found.choose(path)
