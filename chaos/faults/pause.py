"""SIGSTOP: the process stands still in the middle of whatever it does; its connections stay open and silent."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from chaos.farm import Member
from chaos.faults.base import Kind


@dataclass(frozen=True, slots=True)
class Pause:
    name: str = "paused"
    kind: Kind = "stall"

    def apply(self, member: Member) -> None:
        member.send(signal.SIGSTOP)

    async def undo(self, member: Member) -> None:
        """SIGCONT: it goes on where it stood, and what it had to say comes late."""
        member.send(signal.SIGCONT)
