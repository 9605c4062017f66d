"""A blackhole: nothing passes, and nobody is told. Streams go on when it ends, datagrams are lost."""

from __future__ import annotations

from dataclasses import dataclass

from chaos.farm import Member
from chaos.faults.base import Kind


@dataclass(frozen=True, slots=True)
class Cut:
    name: str = "cut off"
    kind: Kind = "stall"

    def apply(self, member: Member) -> None:
        member.link.change(blackhole=True)

    async def undo(self, member: Member) -> None:
        member.link.calm("blackhole")
