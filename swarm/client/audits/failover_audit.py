"""A failover is an audit: who computed other rows than the session rests on, and when that is settled.

Links in, a verdict out: whether the session goes on is decided in `session`, who is banned in `auditor`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from swarm.client.audits.auditor import Auditor
from swarm.client.audits.evidence import Account, account_of
from swarm.client.hops.history import History
from swarm.client.hops.session import HopSession
from swarm.errors import AuditFault
from swarm.identity import PeerId

SETTLE_SECONDS = 5.0  # a third peer that failed a moment ago is waited for this long


class Audit:
    """Of the replacements for one link that was lost; None while a session opens, when there is nothing to compare.

    `after` is what the session holds of the lost link's outputs.
    """

    def __init__(self, lost: HopSession | None, after: History, auditor: Auditor | None = None) -> None:
        self._lost = lost
        self._after = after
        self._auditor = auditor
        self._doubted: dict[PeerId, str] = {}  # who contradicted the session -> digest of what it computed instead
        self._contradictions: list[Account] = []  # theirs
        self._mute: set[PeerId] = set()  # of another numerics class: their bits neither confirm nor contradict
        self._alone_since: float | None = None

    @property
    def doubted(self) -> frozenset[PeerId]:
        return frozenset(self._doubted)

    @property
    def barred(self) -> frozenset[PeerId]:
        """Who shall not be asked again."""
        return frozenset(self._doubted) | self._mute

    def accepts(self, links: Sequence[HopSession], digest: str | None) -> bool:
        """Whether these links may take the place of the lost one. `digest` is of their replayed rows; None: equal to ours.

        Raises AuditFault when a second replacement contradicts the session as the first did.
        """
        self._alone_since = None
        if digest is None:
            self._tell_who_lied(links)
            return True
        if not self._comparable(links):
            if not self._doubted:
                links[-1].mixed = True
                return True
            self._mute.update(link.hop.peer_id for link in links)
            return False
        if digest in self._doubted.values():
            self._give_up()
        self._contradictions.append(account_of(links, History()))  # their outputs are gone, their receipts tell
        self._doubted.update((link.hop.peer_id, digest) for link in links)
        return False

    def alone(self, now: float) -> None:
        """Nobody else can be asked. Raises AuditFault if that stays so while a contradiction is open."""
        if not self._doubted:
            return
        if self._alone_since is None:
            self._alone_since = now
        if now - self._alone_since >= SETTLE_SECONDS:
            self._give_up()

    def _tell_who_lied(self, links: Sequence[HopSession]) -> None:
        """The lost link's rows are confirmed: whoever contradicted them stands against two."""
        if self._auditor is not None and self._lost is not None:
            agreeing = account_of([self._lost], self._after), account_of(links, self._after)
            for liar in self._contradictions:
                self._auditor.settled(liar, agreeing)

    def _give_up(self) -> NoReturn:
        """Raises AuditFault. Who is right is for an audit to find when the session has ended."""
        if self._auditor is not None and self._lost is not None:
            self._auditor.doubt(self._lost.hop.peer_id)
        raise AuditFault(self._disagreement())

    def _comparable(self, links: Sequence[HopSession]) -> bool:
        """Whether all that the session holds after the lost link was computed in the class that these compute in."""
        if self._lost is None:
            return True
        return not self._lost.mixed and all(link.numerics == self._lost.numerics for link in links)

    def _disagreement(self) -> str:
        peers = ", ".join(peer_id.short for peer_id in self._doubted)
        if self._lost is None:
            return f"peers {peers} computed other rows than the session holds"
        return (
            f"peer {self._lost.hop.peer_id.short} and its replacements ({peers}) computed different rows for layers "
            f"{self._lost.hop.span} from the same inputs in one numerics class ({self._lost.numerics}): at least one of them "
            "lies or is broken, and no third peer confirms the rows that the answer so far rests on"
        )
