"""Chance and clocks that code reaches for by itself, tied to a seed for as long as a simulation runs.

swarm's own code takes its random numbers as arguments nearly everywhere; session ids come from `secrets`, and the kademlia
package uses the `random` module and the machine's clock. Signatures are hashes meanwhile: nobody forges any here, and Ed25519
would be a fifth of what a seed costs.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import kademlia.routing
import kademlia.storage

from swarm.identity import SIGNATURE_BYTES, Identity, PeerId

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
    sign, verify = Identity.sign, PeerId.verify
    replaced: tuple[Any, Any] = (Identity, PeerId)
    replaced[0].sign = lambda self, message: _mark(self.peer_id, message)
    replaced[1].verify = lambda self, signature, message: signature == _mark(self, message)
    try:
        yield
    finally:
        replaced[0].sign, replaced[1].verify = sign, verify
        random.setstate(state)
        secrets.token_bytes = token_bytes
        for module in CLOCKED:
            module.time = time


def _mark(peer_id: PeerId, message: bytes) -> bytes:
    """What only this peer would sign a message with, as long as nobody lies."""
    return hashlib.blake2b(message, key=peer_id, digest_size=SIGNATURE_BYTES).digest()
