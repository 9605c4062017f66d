"""Distance: everything to and from the process takes longer, streams and datagrams alike."""

from __future__ import annotations

from dataclasses import dataclass

from chaos.farm import Member
from chaos.faults.base import Kind


@dataclass(frozen=True, slots=True)
class Delay:
    round_trip: float = 0.2  # seconds
    jitter: float = 0.0  # seconds of the round trip, either side
    kind: Kind = "link"

    @property
    def name(self) -> str:
        return f"{self.round_trip * 1e3:.0f}±{self.jitter * 1e3:.0f} ms"

    def apply(self, member: Member) -> None:
        member.link.change(latency=self.round_trip / 2, jitter=self.jitter / 2)

    async def undo(self, member: Member) -> None:
        member.link.calm("latency", "jitter")
