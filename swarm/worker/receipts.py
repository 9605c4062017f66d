"""Receipts for what this worker computed: signed once per chunk, once per RECEIPT_ROWS decode rows, and the rest at the end.

What is due, and what a receipt says, is decided in `wire.receipts`. Knows nothing of positions' rules or of computing.
"""

from __future__ import annotations

import asyncio

from swarm.identity import Identity
from swarm.span import LayerSpan
from swarm.wire.messages import Forward, Push
from swarm.wire.receipts import INLINE_BYTES, Receipt, Tally, hash_rows
from swarm.wire.tensors import Tensor
from swarm.worker.sessions import SessionSlot


class Signer:
    """Keeps each session's tally in its slot."""

    def __init__(self, identity: Identity, model_digest: bytes) -> None:
        self._identity = identity
        self._model_digest = model_digest

    def begin(self, slot: SessionSlot, span: LayerSpan, numerics: str) -> None:
        """A session was opened over `span`."""
        slot.tally = Tally(slot.session_id, span, self._model_digest, numerics)

    def branch(self, slot: SessionSlot, parent: SessionSlot, rows: int) -> Receipt:
        """A session was given the first rows of another: a receipt for them, of its own."""
        assert parent.tally is not None
        slot.tally = parent.tally.branch(slot.session_id, rows)
        return slot.tally.sign(self._identity)

    async def take(self, slot: SessionSlot, asked: Forward | Push, outputs: Tensor) -> Receipt | None:
        """Rows were computed: the receipt that goes with them, if one is due.

        Nothing may fail or wait between this and the answer's being kept, or a step that is repeated would be counted twice.
        """
        assert slot.tally is not None
        if asked.tensor.data.nbytes + outputs.data.nbytes > INLINE_BYTES:
            digests = await asyncio.to_thread(hash_rows, asked.tensor, outputs)
        else:
            digests = hash_rows(asked.tensor, outputs)
        slot.tally.add_digests(asked.position, *digests)
        return slot.tally.sign(self._identity) if slot.tally.due(asked.rows) else None

    def rest(self, slot: SessionSlot) -> Receipt | None:
        """The session has ended: a receipt for the rows that have none."""
        return slot.tally.sign(self._identity) if slot.tally is not None and slot.tally.pending else None
