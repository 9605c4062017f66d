"""SIGKILL: the process has no chance to say anything; the kernel closes its sockets."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from chaos.farm import Member
from chaos.faults.base import Kind


@dataclass(frozen=True, slots=True)
class Kill:
    name: str = "killed"
    kind: Kind = "crash"

    def apply(self, member: Member) -> None:
        member.send(signal.SIGKILL)

    async def undo(self, member: Member) -> None:
        """Started again, as the same peer at the same ports."""
        if not member.serving:
            await member.ended()
            await member.start()
