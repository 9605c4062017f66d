"""How much memory the caches of a model may take that is computed in this process alone: what is free, as a worker's."""

from __future__ import annotations

from swarm.client.local import CacheBytes
from swarm.engine.backends import Model
from swarm.worker.capacity import measure_capacity, resolve_device

LOCAL_CACHE_SHARE = 0.5  # of the free memory that the weights leave: this is somebody's own machine
MOST_CONTEXTS = 8  # sessions as long as the model's context, that there is room for at most
LEAST_ROWS = 4096  # that there is room for at least, or for the context: it is taken only as sessions grow


def local_cache(device: str) -> CacheBytes:
    """For models that are loaded on a device. Measured when a model is loaded, after those before it."""

    def size(opened: Model, precision: str) -> int:
        spec = opened.spec
        weights = opened.footprint(spec.span, precision)

        def of(rows: int) -> int:
            return opened.footprint(spec.span, precision, rows) - weights

        head = opened.footprint(spec.span, precision, with_head=True) - weights
        left = measure_capacity(resolve_device(device)).memory_free - weights - head
        most, least = of(spec.max_positions) * MOST_CONTEXTS, of(min(LEAST_ROWS, spec.max_positions))
        return max(least, min(most, int(left * LOCAL_CACHE_SHARE)))

    return size
