"""What is left in memory without the garbage collector's help: objects that hold each other in a circle."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


def living(kind: type) -> int:
    """How many objects of that very class, or of one derived from it, there are."""
    return sum(kind in type(each).__mro__ for each in gc.get_objects())  # isinstance would wake lazy modules


@contextmanager
def no_circles(*kinds: type) -> Iterator[None]:
    """After the block no more objects of these classes are there than before it, the collector being off meanwhile."""
    gc.collect()
    gc.disable()
    try:
        before = {kind: living(kind) for kind in kinds}
        yield
        left = {kind.__name__: count for kind in kinds if (count := living(kind) - before[kind]) > 0}
        assert not left, f"kept by circles: {left}"
    finally:
        gc.enable()
