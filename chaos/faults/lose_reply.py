"""The next reply of the process is lost after it did the work, wholly or from its middle on: its connection is reset."""

from __future__ import annotations

from dataclasses import dataclass

from chaos.farm import Member
from chaos.faults.base import Kind


@dataclass(frozen=True, slots=True)
class LoseReply:
    passing: int = 0  # bytes of it that still arrive
    kind: Kind = "link"

    @property
    def name(self) -> str:
        return f"reply cut after {self.passing} bytes" if self.passing else "reply lost"

    def apply(self, member: Member) -> None:
        member.link.pipes.cut_after = self.passing

    async def undo(self, member: Member) -> None:
        member.link.pipes.cut_after = None
