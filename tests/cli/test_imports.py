"""Code that is imported stays out of the collector's way, and the collector stays on."""

from __future__ import annotations

import gc

import pytest

from swarm.cli.imports import lasting


def test_what_is_made_meanwhile_is_set_aside_and_the_collector_is_on_again() -> None:
    before = gc.get_freeze_count()
    try:
        with lasting():
            assert not gc.isenabled()
        assert gc.isenabled()
        assert gc.get_freeze_count() > before
        with pytest.raises(ImportError), lasting():
            raise ImportError("torch")
        assert gc.isenabled()
    finally:
        gc.unfreeze()
