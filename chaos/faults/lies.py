"""A worker whose rows are wrong in a named way, signed as if they were right."""

from __future__ import annotations

from dataclasses import dataclass

from chaos.farm import Member
from chaos.faults.base import Kind


@dataclass(frozen=True, slots=True)
class Lies:
    """For layouts with `inside`. The names are those of `chaos.liars.Lie`."""

    lie: str = "large-noise"
    when: str = "always"  # or "replays"
    kind: Kind = "lie"

    @property
    def name(self) -> str:
        return f"lies: {self.lie}"

    def apply(self, member: Member) -> None:
        member.tell(lie=self.lie, when=self.when)

    async def undo(self, member: Member) -> None:
        member.tell(lie=None)
