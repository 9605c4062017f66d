"""What the worker of a link has signed of its rows, held against what it was given and what it answered.

A worker may be given rows and not be asked for what it made of them (`forwarding.quiet`): they count once both are known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from swarm.errors import ProtocolFault
from swarm.identity import PeerId
from swarm.span import LayerSpan
from swarm.wire.receipts import INLINE_BYTES, Receipt, Tally, hash_rows
from swarm.wire.rows import Rows
from swarm.wire.tensors import Tensor


class HopReceipts:
    """Of one session of one worker."""

    def __init__(self, session_id: bytes, span: LayerSpan, model_digest: bytes, numerics: str, peer_id: PeerId) -> None:
        self.kept: list[Receipt] = []  # of rows in order, none twice: never more than rows
        self._early: list[Receipt] = []  # of rows that do not count yet
        self._tally = Tally(session_id, span, model_digest, numerics)
        self._peer_id = peer_id

    @property
    def rows(self) -> int:
        """That count."""
        return self._tally.stop

    @property
    def pending(self) -> int:
        """Of these, that have no receipt."""
        return self._tally.pending

    def computed_in(self, numerics: str) -> None:
        """What the worker says that it computes in."""
        self._tally.numerics = numerics

    def branch(self, parent: HopReceipts, session_id: bytes, rows: int, receipt: Receipt | None) -> None:
        """The session was given the first rows of another, and signed them. Raises ProtocolFault."""
        self._tally = parent._tally.branch(session_id, rows)
        self.kept.append(self._tally.check(receipt, self._peer_id))

    def roll_back(self, position: int) -> None:
        """Rows from `position` on are given anew, and may be others."""
        self._tally.roll_back(position)

    def early(self, position: int, receipt: Receipt | None) -> None:
        """What came with rows from `position` on, which do not count yet."""
        self._early = [each for each in self._early if each.stop <= position]
        if receipt is not None:
            self._early.append(receipt)

    async def count(self, rows: Rows, position: int, inputs: Tensor, outputs: Tensor, receipt: Receipt | None) -> None:
        """Rows [count, hidden] from `position` on, at most `rows`, what came of them, and the receipt that came with the last.

        Keeps the receipts that are due. Raises ProtocolFault.
        """
        if inputs.data.nbytes + outputs.data.nbytes > INLINE_BYTES:
            given, made = await asyncio.to_thread(hash_rows, inputs, outputs)
        else:
            given, made = hash_rows(inputs, outputs)
        while self.kept and self.kept[-1].stop > position:
            self.kept.pop()  # its last rows are computed anew
        stop = position + inputs.shape[0]
        size = len(given) // inputs.shape[0]  # bytes of one row's digest
        at = position
        for each in self._due(position, stop, receipt):
            end = each.stop if at < each.stop < stop else stop  # one that speaks of other rows fails the check
            part = slice((at - position) * size, (end - position) * size)
            self._tally.add_digests(at, given[part], made[part])
            at = end
            if not self._tally.due(rows):
                raise ProtocolFault(f"peer {self._peer_id.short} gave a receipt that is not due")
            self.kept.append(self._tally.check(each, self._peer_id))
        if at < stop:
            part = slice((at - position) * size, None)
            self._tally.add_digests(at, given[part], made[part])
            if self._tally.due(rows):
                self._tally.check(None, self._peer_id)

    def _due(self, position: int, stop: int, receipt: Receipt | None) -> Sequence[Receipt]:
        early, self._early = self._early, []
        last = stop if receipt is None else stop - 1  # the last row's may have come early, or with it
        found = [each for each in early if position < each.stop <= last]
        return found if receipt is None else [*found, receipt]

    def end(self, receipt: Receipt | None) -> None:
        """The session has ended: of the rows that have no receipt. Raises ProtocolFault."""
        if self.pending:
            self.kept.append(self._tally.check(receipt, self._peer_id))
