"""A part of the datagrams vanishes, each way; between namespaces, of all packets. The proxy delays streams only (see `delay`)."""

from __future__ import annotations

from dataclasses import dataclass

from chaos.farm import Member
from chaos.faults.base import Kind


@dataclass(frozen=True, slots=True)
class Loss:
    part: float = 0.05
    kind: Kind = "link"

    @property
    def name(self) -> str:
        return f"{self.part:.0%} lost"

    def apply(self, member: Member) -> None:
        member.link.change(loss=self.part)

    async def undo(self, member: Member) -> None:
        member.link.calm("loss")
