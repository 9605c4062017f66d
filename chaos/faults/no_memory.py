"""Memory for sessions cannot be had: what a worker asks of its allocator fails, within its budget or not."""

from __future__ import annotations

from dataclasses import dataclass

from chaos.farm import Member
from chaos.faults.base import Kind


@dataclass(frozen=True, slots=True)
class NoMemory:
    """For layouts with `inside`."""

    name: str = "no memory"
    kind: Kind = "link"

    def apply(self, member: Member) -> None:
        member.tell(allocation=True)

    async def undo(self, member: Member) -> None:
        member.tell(allocation=False)
