"""A blackhole: nothing passes, and nobody is told. Streams go on when it ends, datagrams are lost."""

from __future__ import annotations

from dataclasses import dataclass

from chaos.farm import Member
from chaos.faults.base import Kind
from chaos.network.weather import WAYS, Way


@dataclass(frozen=True, slots=True)
class Cut:
    """A partition that is not symmetric has one way only: "to" the process, or "back" from it."""

    ways: tuple[Way, ...] = WAYS
    kind: Kind = "stall"

    @property
    def name(self) -> str:
        if self.ways == WAYS:
            return "cut off"
        return "hears nothing" if "to" in self.ways else "is not heard"

    def apply(self, member: Member) -> None:
        member.link.change(*self.ways, blackhole=True)

    async def undo(self, member: Member) -> None:
        member.link.calm("blackhole")
