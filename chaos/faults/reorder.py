"""What was sent arrives in another order: datagrams overtake each other, and so do stretches of a stream."""

from __future__ import annotations

from dataclasses import dataclass

from chaos.farm import Member
from chaos.faults.base import Kind


@dataclass(frozen=True, slots=True)
class Reorder:
    part: float = 0.05
    kind: Kind = "link"

    @property
    def name(self) -> str:
        return f"{self.part:.1%} out of order"

    def apply(self, member: Member) -> None:
        member.link.change(reorders=self.part)

    async def undo(self, member: Member) -> None:
        member.link.calm("reorders")
