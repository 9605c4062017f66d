"""Streams arrive in small pieces: whoever reads must not take one read for one frame."""

from __future__ import annotations

from dataclasses import dataclass

from chaos.farm import Member
from chaos.faults.base import Kind


@dataclass(frozen=True, slots=True)
class Slice:
    size: int = 37  # bytes
    kind: Kind = "link"

    @property
    def name(self) -> str:
        return f"pieces of {self.size} bytes"

    def apply(self, member: Member) -> None:
        member.link.change(slice_bytes=self.size)

    async def undo(self, member: Member) -> None:
        member.link.calm("slice_bytes")
