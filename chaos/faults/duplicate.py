"""What was sent arrives twice: datagrams, and stretches of a stream, which then is no longer what was sent."""

from __future__ import annotations

from dataclasses import dataclass

from chaos.farm import Member
from chaos.faults.base import Kind


@dataclass(frozen=True, slots=True)
class Duplicate:
    part: float = 0.05
    kind: Kind = "link"

    @property
    def name(self) -> str:
        return f"{self.part:.1%} arrives twice"

    def apply(self, member: Member) -> None:
        member.link.change(duplicates=self.part)

    async def undo(self, member: Member) -> None:
        member.link.calm("duplicates")
