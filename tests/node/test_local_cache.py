"""How much a model that is computed here alone may take for its caches."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.models import make_model

from swarm.engine.backends import open_model
from swarm.node import local_cache as module
from swarm.node.local_cache import LEAST_ROWS, LOCAL_CACHE_SHARE, MOST_CONTEXTS, local_cache
from swarm.worker.capacity import Capacity

GIB = 1 << 30


@pytest.mark.parametrize("free", ["none", "some", "plenty"])
def test_half_of_what_is_free_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: str) -> None:
    opened = open_model(make_model(tmp_path / "m"))
    span, context = opened.spec.span, opened.spec.max_positions
    weights = opened.footprint(span, "fp32")

    def caches(rows: int) -> int:
        return opened.footprint(span, "fp32", rows) - weights

    left = {"none": 0, "some": 2 * caches(2 * context), "plenty": GIB}[free]
    wanted = {"none": caches(min(LEAST_ROWS, context)), "some": int(left * LOCAL_CACHE_SHARE)}
    memory = opened.footprint(span, "fp32", with_head=True) + left
    monkeypatch.setattr(module, "measure_capacity", lambda _: Capacity(memory, memory, 1, "cpu"))
    assert local_cache("cpu")(opened, "fp32") == wanted.get(free, MOST_CONTEXTS * caches(context))
