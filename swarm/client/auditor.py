"""Audits: of some sessions a span is computed again by another worker, and whoever lied about it is banned."""

from __future__ import annotations

from collections.abc import Sequence

from swarm.client.evidence import Account, Evidence
from swarm.identity import PeerId


class Auditor:
    """`async with Auditor(...)`: leaving ends the audits that are under way."""

    def session_ended(self, evidence: Sequence[Evidence]) -> None:
        """Of each of its hops, which are closed."""

    def doubt(self, peer_id: PeerId) -> None:
        """A failover contradicted it and nobody settled that: what it did in the session that ends is audited for certain."""

    def settled(self, liar: Account, agreeing: tuple[Account, Account]) -> None:
        """A failover found that two accounts agree against one."""
