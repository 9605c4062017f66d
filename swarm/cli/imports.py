"""Importing what a command needs: hundreds of thousands of objects, which stay."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def lasting() -> Iterator[None]:
    """What is made meanwhile is never looked through for cycles: a sixth of the time that torch takes to load, and later on
    a pause of every full collection."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
