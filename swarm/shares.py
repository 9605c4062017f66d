"""One budget that many want a part of: sessions, cache, rows in flight, channels. Pure bookkeeping.

Nobody may hold more than a fixed multiple of what is still free. Alone, a peer or an address block gets its whole share,
say three quarters; the more others hold, the less, and something is always left for who comes next, without anybody
having to give back what it has. (The rule is that of shared buffers in switches: Choudhury and Hahne, Dynamic queue length
thresholds, 1998.) Keys are free and addresses are not, so what counts is the block; a peer's own share keeps the peers of one
household apart. Many honest users behind one router are one block: shares are generous, and bite under pressure only.

Whoever holds nothing yet may take as much as is free: one session may be larger than a share.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from swarm.identity import PeerId


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds something, as far as limits are concerned."""

    peer: PeerId
    block: bytes  # of its address; see `records.address_block`


class Shares:
    """`refusal` first, then `take`; `give` what was taken."""

    def __init__(self, capacity: int, peer_share: float, block_share: float) -> None:
        self.capacity = capacity
        self.used = 0
        self._multiple = {"peer": _multiple(peer_share), "block": _multiple(block_share)}
        self._peers: Counter[PeerId] = Counter()
        self._blocks: Counter[bytes] = Counter()

    def refusal(self, holder: Holder, amount: int, instead: int = 0) -> str | None:
        """Why this holder may not have so much more; None if it may. `instead`: of what it holds, so much is given back for it.

        What grows is thus judged as if it were taken anew: alone, it may grow to whatever is free.
        """
        used = self.used - instead
        free = self.capacity - used - amount
        if free < 0:
            return f"{used} of {self.capacity} are taken"
        for name, all_held in (("peer", self._peers[holder.peer]), ("block", self._blocks[holder.block])):
            held = all_held - instead
            if held and held + amount > self._multiple[name] * free:
                whose = "you hold" if name == "peer" else "your address block holds"
                return f"{whose} {held}, and of {self.capacity} only {self.capacity - used} are free for everybody"
        return None

    def take(self, holder: Holder, amount: int) -> None:
        self.used += amount
        self._peers[holder.peer] += amount
        self._blocks[holder.block] += amount

    def give(self, holder: Holder, amount: int) -> None:
        self.used -= amount
        self._peers[holder.peer] -= amount
        self._blocks[holder.block] -= amount
        if not self._peers[holder.peer]:
            del self._peers[holder.peer]
        if not self._blocks[holder.block]:
            del self._blocks[holder.block]

    def of_peer(self, holder: Holder) -> int:
        return self._peers[holder.peer]

    def __repr__(self) -> str:
        return f"Shares({self.used} of {self.capacity}, peers={len(self._peers)}, blocks={len(self._blocks)})"


def _multiple(share: float) -> float:
    """Of what is free, that gives this part of everything to whoever is alone."""
    return share / (1 - share) if share < 1 else float("inf")
