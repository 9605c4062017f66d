"""A narrow link: so many bytes a second each way, shared by all connections of the process and its datagrams."""

from __future__ import annotations

from dataclasses import dataclass

from chaos.farm import Member
from chaos.faults.base import Kind


@dataclass(frozen=True, slots=True)
class Bandwidth:
    bytes_per_second: float = 125_000.0  # 1 Mbit/s
    kind: Kind = "link"

    @property
    def name(self) -> str:
        return f"{self.bytes_per_second * 8e-6:g} Mbit/s"

    def apply(self, member: Member) -> None:
        member.link.change(bandwidth=self.bytes_per_second)

    async def undo(self, member: Member) -> None:
        member.link.calm("bandwidth")
