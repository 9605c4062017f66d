"""Two machines apart: they hear nothing of each other, and everything of the others. Between namespaces only."""

from __future__ import annotations

from dataclasses import dataclass

from chaos.farm import Member
from chaos.faults.base import Kind
from chaos.network.namespaces import Wire
from chaos.network.weather import WAYS, Way
from swarm.errors import UsageFault


@dataclass(frozen=True, slots=True)
class Part:
    """From the machines whose names begin with `others`; with one way only it is not symmetric (see `Cut`)."""

    others: str = "client"
    ways: tuple[Way, ...] = WAYS
    kind: Kind = "stall"

    @property
    def name(self) -> str:
        if self.ways == WAYS:
            return f"cut off from {self.others}"
        return f"hears nothing of {self.others}" if "to" in self.ways else f"is not heard by {self.others}"

    def apply(self, member: Member) -> None:
        if not isinstance(member.link, Wire):
            raise UsageFault("the proxy does not know who talks to whom: run this scenario with --namespaces")
        member.link.part(self.others, *self.ways)

    async def undo(self, member: Member) -> None:
        assert isinstance(member.link, Wire)
        member.link.rejoin(self.others)
