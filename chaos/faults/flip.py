"""Bits arrive wrong, in streams and datagrams, each way."""

from __future__ import annotations

from dataclasses import dataclass

from chaos.farm import Member
from chaos.faults.base import Kind


@dataclass(frozen=True, slots=True)
class Flip:
    per_byte: float = 1e-5
    kind: Kind = "link"

    @property
    def name(self) -> str:
        return f"a wrong bit in {1 / self.per_byte:.0f} bytes"

    def apply(self, member: Member) -> None:
        member.link.change(flips=self.per_byte)

    async def undo(self, member: Member) -> None:
        member.link.calm("flips")
