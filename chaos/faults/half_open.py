"""A machine that loses power: the process is gone, and nobody tells those who were connected to it."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from chaos.farm import Member
from chaos.faults.base import Kind


@dataclass(frozen=True, slots=True)
class HalfOpen:
    name: str = "half open"
    kind: Kind = "stall"

    def apply(self, member: Member) -> None:
        member.link.pipes.half_open = True
        member.link.change(blackhole=True)
        member.send(signal.SIGKILL)

    async def undo(self, member: Member) -> None:
        """Started again; what was connected to the one before learns of its end."""
        member.link.pipes.half_open = False
        member.link.calm("blackhole")
        if not member.serving:
            await member.ended()
            await member.start()
