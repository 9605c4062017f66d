"""What a session leaves behind for an audit: of every hop what went in, what came out, and the receipts for it. Pure.

Histories are handed over, never copied: whoever holds an account holds the rows of a whole session.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from swarm.client.hops.history import History
from swarm.client.hops.session import HopSession
from swarm.identity import PeerId
from swarm.routing.chain import Hop
from swarm.span import LayerSpan
from swarm.wire.receipts import Receipt

DIGEST_BYTES = 32  # of one row, SHA-256


@dataclass(frozen=True, slots=True)
class Evidence:
    """One hop's part in a session."""

    hop: Hop
    numerics: str  # its numerics class, as it said itself
    inputs: History
    outputs: History  # as many rows, or none where only the receipts are left
    receipts: tuple[Receipt, ...]  # held against what it answered when they came

    @property
    def bytes(self) -> int:
        return self.inputs.bytes + self.outputs.bytes

    def __repr__(self) -> str:
        return f"<evidence of {self.hop}: {self.inputs.length} rows, {len(self.receipts)} receipts>"


@dataclass(frozen=True, slots=True)
class Account:
    """What hops, one after the other, made of the same inputs: one side of a contradiction."""

    parts: tuple[Evidence, ...]

    @property
    def inputs(self) -> History:
        return self.parts[0].inputs

    @property
    def outputs(self) -> History:
        return self.parts[-1].outputs

    @property
    def span(self) -> LayerSpan:
        return LayerSpan(self.parts[0].hop.span.start, self.parts[-1].hop.span.stop)

    @property
    def peers(self) -> tuple[PeerId, ...]:
        return tuple(part.hop.peer_id for part in self.parts)

    @property
    def numerics(self) -> str | None:
        """The numerics class of all its hops; None if they differ."""
        classes = {part.numerics for part in self.parts}
        return classes.pop() if len(classes) == 1 else None

    def __str__(self) -> str:
        return ", ".join(peer_id.short for peer_id in self.peers)


def account_of(links: Sequence[HopSession], after: History) -> Account:
    """What these links, which follow each other, made of the first one's inputs; `after` is what the last one gave."""
    outputs = [link.inputs for link in links[1:]] + [after]
    return Account(
        tuple(
            Evidence(link.hop, link.numerics, link.inputs, given, tuple(link.receipts))
            for link, given in zip(links, outputs, strict=True)
        )
    )


def digest_of(rows: bytes, start: int, stop: int) -> bytes:
    """What a receipt says of rows `start` to `stop`. `rows` holds the digest of every row from position 0 on."""
    return hashlib.sha256(memoryview(rows)[start * DIGEST_BYTES : stop * DIGEST_BYTES]).digest()


def signed_ranges(receipts: Iterable[Receipt], inputs: bytes, outputs: bytes) -> list[tuple[int, int]]:
    """The positions whose rows, as their digests here say, are the very rows that the receipts speak of.

    A hop that took over from one of another numerics class computed other rows than the session goes on to hold: its receipts
    do not fit them, and what it did not sign nobody holds against it.
    """
    count = min(len(inputs), len(outputs)) // DIGEST_BYTES
    return [
        (receipt.start, receipt.stop)
        for receipt in receipts
        if receipt.stop <= count
        and digest_of(inputs, receipt.start, receipt.stop) == receipt.inputs
        and digest_of(outputs, receipt.start, receipt.stop) == receipt.outputs
    ]
