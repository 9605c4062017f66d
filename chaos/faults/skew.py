"""A clock that is wrong: the process takes it for another time, from this moment on. What it does next is in no hurry."""

from __future__ import annotations

from dataclasses import dataclass

from chaos.farm import Member
from chaos.faults.base import Kind


@dataclass(frozen=True, slots=True)
class Skew:
    """For layouts with `inside`."""

    seconds: float = 3600.0  # ahead; behind if less than nothing
    kind: Kind = "link"

    @property
    def name(self) -> str:
        return f"clock {self.seconds:+g} s"

    def apply(self, member: Member) -> None:
        member.tell(skew=self.seconds)

    async def undo(self, member: Member) -> None:
        member.tell(skew=0.0)
