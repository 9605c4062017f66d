"""Every open connection of the process ends with RST, as when a firewall forgets them; new ones may be made at once."""

from __future__ import annotations

from dataclasses import dataclass

from chaos.farm import Member
from chaos.faults.base import Kind


@dataclass(frozen=True, slots=True)
class Reset:
    name: str = "reset"
    kind: Kind = "link"

    def apply(self, member: Member) -> None:
        member.link.pipes.reset()

    async def undo(self, member: Member) -> None:
        """Nothing stays."""
