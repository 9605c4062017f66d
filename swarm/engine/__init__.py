"""The engine: a span of a model's layers, computed so that the same inputs give the same bits. It knows no network.

Importing it loads torch, and settles what must be settled before torch is loaded.
"""

import swarm.torch_environment  # noqa: F401 – importing it is what it is for
from swarm.engine.caches.footprint import footprint
from swarm.engine.caches.kv_cache import CachePool, SessionCache
from swarm.engine.head import Head
from swarm.engine.numerics import CHUNK_ROWS, PRECISIONS, Precision, numerics_class, settle_threads
from swarm.engine.stage import Stage, chunk_rows

__all__ = [
    "CHUNK_ROWS",
    "PRECISIONS",
    "CachePool",
    "Head",
    "Precision",
    "SessionCache",
    "Stage",
    "chunk_rows",
    "footprint",
    "numerics_class",
    "settle_threads",
]
