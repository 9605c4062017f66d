"""Chance and clocks that code reaches for by itself, tied to a seed for as long as a simulation runs.

swarm's own code takes its random numbers as arguments nearly everywhere; session ids come from `secrets`, and the kademlia
package uses the `random` module and the machine's clock.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import kademlia.routing
import kademlia.storage

CLOCKED: tuple[Any, ...] = (kademlia.routing, kademlia.storage)  # modules that ask `time.monotonic`


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within, the same seed draws the same; afterwards everything is as it was."""
    state, token_bytes = random.getstate(), secrets.token_bytes
    tokens = random.Random(f"{seed} tokens")
    random.seed(f"{seed} kademlia")
    secrets.token_bytes = lambda nbytes=None: tokens.randbytes(nbytes or 32)
    for module in CLOCKED:
        module.time = SimpleNamespace(monotonic=lambda: asyncio.get_running_loop().time())
    try:
        yield
    finally:
        random.setstate(state)
        secrets.token_bytes = token_bytes
        for module in CLOCKED:
            module.time = time
