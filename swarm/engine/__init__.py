"""The engine: a span of a model's layers, computed so that the same inputs give the same bits. It knows no network.

Importing it loads torch, and settles what must be settled before torch is loaded.
"""

import os
import platform
import sys

if "torch" not in sys.modules:
    if platform.machine() in ("x86_64", "AMD64"):
        # fp32 linears then give the same bits at any thread count; MKL reads this when it loads
        os.environ.setdefault("MKL_CBWR", "AVX2,STRICT")
    # Several nodes often share a machine's cores. A thread that spins at a barrier keeps the one it waits for from running:
    # with two busy processes on two cores, an operation of 15 us took 8 ms
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from swarm.engine.cache import CachePool, SessionCache
from swarm.engine.head import Head
from swarm.engine.manifest import Manifest, model_name, read_manifest
from swarm.engine.numerics import CHUNK_ROWS, PRECISIONS, Precision, numerics_class, settle_threads
from swarm.engine.plan import footprint
from swarm.engine.spec import ModelSpec, read_spec
from swarm.engine.stage import Stage, chunk_rows

__all__ = [
    "CHUNK_ROWS",
    "PRECISIONS",
    "CachePool",
    "Head",
    "Manifest",
    "ModelSpec",
    "Precision",
    "SessionCache",
    "Stage",
    "chunk_rows",
    "footprint",
    "model_name",
    "numerics_class",
    "read_manifest",
    "read_spec",
    "settle_threads",
]
