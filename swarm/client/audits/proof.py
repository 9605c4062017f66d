"""What a liar is convicted by, written so that somebody else can check it: signed receipts, and the digests of all rows.

A receipt signs digests of rows, so the rows themselves are not needed: it is enough that three sessions were given the same
rows from position 0 on, that two of them, of other peers, signed the same outputs, and that the third signed others. Whoever
checks need not believe who wrote it: a client cannot make up signatures, nor give a peer other rows than it says. What a proof
cannot show is whose address is whose. Across numerics classes bits differ anyway: there it only shows who signed what.
"""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from swarm.client.audits.evidence import DIGEST_BYTES, Account, Evidence, digest_of
from swarm.client.hops.history import History
from swarm.errors import ProtocolFault, UsageFault
from swarm.identity import PeerId
from swarm.span import LayerSpan
from swarm.wire.receipts import Receipt, row_digests

MAX_PROOF_ROWS = 8192  # of a longer session only the beginning is proved
FORM = "swarm-proof-1"


class NoProof(ValueError):
    """What was given does not convict anybody; the text says why."""


@dataclass(frozen=True, slots=True)
class Party:
    """One hop's session."""

    peer_id: PeerId
    receipts: tuple[Receipt, ...]  # by position

    def check(self, span: LayerSpan, model_digest: bytes, inputs: bytes) -> int:
        """Up to which row, from 0 on, it signed that it was given `inputs`. Raises NoProof."""
        reached = 0
        for receipt in self.receipts:
            if not receipt.verify(self.peer_id):
                raise NoProof(f"{receipt!r} is not signed by peer {self.peer_id.short}")
            if (receipt.span, receipt.model_digest) != (span, model_digest):
                raise NoProof(f"{receipt!r} speaks of other layers or of another model")
            if receipt.session_id != self.receipts[0].session_id or receipt.numerics != self.receipts[0].numerics:
                raise NoProof(f"the receipts of peer {self.peer_id.short} are of several sessions")
            if receipt.start != reached or receipt.stop * DIGEST_BYTES > len(inputs):
                raise NoProof(f"the receipts of peer {self.peer_id.short} leave a gap before {receipt!r}")
            if digest_of(inputs, receipt.start, receipt.stop) != receipt.inputs:
                raise NoProof(f"{receipt!r} speaks of other inputs")
            reached = receipt.stop
        return reached


@dataclass(frozen=True, slots=True)
class Witness:
    """One of the two accounts that agree."""

    hops: tuple[Party, ...]
    rows: tuple[bytes, ...] = field(repr=False)  # the digests of all rows, at every boundary from inputs to outputs

    def check(self, span: LayerSpan, model_digest: bytes) -> int:
        """Up to which row all its hops signed what `rows` says. Raises NoProof."""
        start = span.start
        if not self.hops or len(self.rows) != len(self.hops) + 1:
            raise NoProof("an account needs the rows at every boundary of its hops")
        reached = len(self.rows[0])
        for party, inputs, outputs in zip(self.hops, self.rows[:-1], self.rows[1:], strict=True):
            if not party.receipts or party.receipts[0].span.start != start:
                raise NoProof(f"peer {party.peer_id.short} signed nothing of the layers from {start} on")
            start = party.receipts[0].span.stop
            reached = min(reached, party.check(party.receipts[0].span, model_digest, inputs))
            for receipt in party.receipts:
                if digest_of(outputs, receipt.start, receipt.stop) != receipt.outputs:
                    raise NoProof(f"{receipt!r} speaks of other outputs")
        if start != span.stop:
            raise NoProof(f"an account ends before layer {start}, not {span.stop}")
        return reached


@dataclass(frozen=True, slots=True)
class Proof:
    """Two against one."""

    liar: Party
    witnesses: tuple[Witness, Witness]
    measure: str  # how they differ, in the words of who wrote it

    def check(self) -> Receipt:
        """The liar's receipt that two others contradict. Raises NoProof."""
        if not self.liar.receipts:
            raise NoProof(f"peer {self.liar.peer_id.short} signed nothing")
        first, one, other = self.liar.receipts[0], *self.witnesses
        peers = [self.liar.peer_id, *(party.peer_id for witness in self.witnesses for party in witness.hops)]
        if len(set(peers)) != len(peers):
            raise NoProof("somebody stands on two sides")
        if one.rows[0] != other.rows[0]:
            raise NoProof("the accounts are of other inputs")
        classes = [
            {receipt.numerics for party in witness.hops for receipt in party.receipts} for witness in self.witnesses
        ]
        if {first.numerics} not in classes:
            raise NoProof("nobody else computed in the liar's numerics class: their bits may differ")
        self.liar.check(first.span, first.model_digest, one.rows[0])
        confirmed = min(witness.check(first.span, first.model_digest) for witness in self.witnesses)
        for receipt in self.liar.receipts:
            agreed = {digest_of(witness.rows[-1], receipt.start, receipt.stop) for witness in self.witnesses}
            if receipt.stop > confirmed or len(agreed) != 1:
                break
            if receipt.outputs not in agreed:
                return receipt
        raise NoProof("no row that the liar signed is contradicted by two others in its numerics class")

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "form": FORM,
            "measure": self.measure,
            "liar": _party_data(self.liar),
            "witnesses": [
                {"hops": [_party_data(party) for party in witness.hops], "rows": [_text(rows) for rows in witness.rows]}
                for witness in self.witnesses
            ],
        }

    @classmethod
    def parse(cls, data: Any) -> Proof:
        """Raises NoProof for anything else than `as_data` gave."""
        try:
            if data["form"] != FORM:
                raise NoProof(f"its form is {data['form']!r}, not {FORM}")
            one, other = (
                Witness(tuple(_party(hop) for hop in each["hops"]), tuple(b64decode(rows) for rows in each["rows"]))
                for each in data["witnesses"]
            )
            return cls(_party(data["liar"]), (one, other), str(data["measure"]))
        except NoProof:
            raise
        except (ValueError, TypeError, KeyError, ProtocolFault, UsageFault) as error:
            raise NoProof(f"it is malformed ({error!r})") from error


async def prove(liar: Evidence, agreeing: Sequence[Account], measure: str) -> Proof:
    """What there is against a liar; others have their turn on the event loop meanwhile."""
    found: dict[int, bytes] = {}
    boundaries = [[*(part.inputs for part in account.parts), account.outputs] for account in agreeing]
    for history in (history for each in boundaries for history in each):
        if id(history) not in found:
            found[id(history)] = await digests(history, MAX_PROOF_ROWS)
    rows = [[found[id(history)] for history in each] for each in boundaries]
    needed = _needed(liar.receipts, rows[0][-1])
    hops = [_hops(account, needed, rows) for account in agreeing]
    reached = max((r.stop for each in hops for party in each for r in party.receipts), default=0) * DIGEST_BYTES
    one, other = (
        Witness(each, tuple(row[:reached] for row in crossed)) for each, crossed in zip(hops, rows, strict=True)
    )
    kept = tuple(receipt for receipt in liar.receipts if receipt.stop <= needed)
    return Proof(Party(liar.hop.peer_id, kept), (one, other), measure)


async def digests(history: History, most: int) -> bytes:
    """Of the first `most` rows, one after the other."""
    found = bytearray()
    for entry in history.entries():
        if entry.position >= most:
            break
        found += row_digests(entry.tensor)
        await asyncio.sleep(0)
    return bytes(found[: most * DIGEST_BYTES])


def _needed(receipts: Iterable[Receipt], outputs: bytes) -> int:
    """Up to which row the liar's receipts are needed: to the first that contradicts, else as far as they can be shown."""
    known = len(outputs) // DIGEST_BYTES
    needed = 0
    for receipt in receipts:
        if receipt.stop > known:
            break
        needed = receipt.stop
        if digest_of(outputs, receipt.start, receipt.stop) != receipt.outputs:
            break
    return needed


def _hops(account: Account, needed: int, rows: Sequence[Sequence[bytes]]) -> tuple[Party, ...]:
    """With receipts up to the first that reaches `needed`, of rows whose digests are known."""
    known = min(len(each) for crossed in rows for each in crossed) // DIGEST_BYTES
    return tuple(
        Party(part.hop.peer_id, tuple(r for r in part.receipts if r.start < needed and r.stop <= known))
        for part in account.parts
    )


def _party_data(party: Party) -> dict[str, Any]:
    return {"peer": str(party.peer_id), "receipts": [_text(receipt.pack()) for receipt in party.receipts]}


def _party(data: Mapping[str, Any]) -> Party:
    return Party(PeerId.parse(data["peer"]), tuple(Receipt.parse(b64decode(each)) for each in data["receipts"]))


def _text(raw: bytes) -> str:
    return b64encode(raw).decode("ascii")
