"""SIGTERM: the process says goodbye, lets running sessions finish for a while, and leaves."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from chaos.farm import Member
from chaos.faults.base import Kind


@dataclass(frozen=True, slots=True)
class Stop:
    name: str = "stopping"
    kind: Kind = "crash"

    def apply(self, member: Member) -> None:
        member.send(signal.SIGTERM)

    async def undo(self, member: Member) -> None:
        """Its end is waited for (TimeoutError if it never comes), then it is started again."""
        await member.ended()
        await member.start()
