"""A process that gets a part of the processor only: it is stopped most of the time, in turns too short to seem dead."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from dataclasses import dataclass, field

from chaos.farm import Member
from chaos.faults.base import Kind

TURN_SECONDS = 0.2  # running and stopped; long enough that a step takes ten times as long on a busy machine too


@dataclass(frozen=True, slots=True)
class Slow:
    """`factor` times slower."""

    factor: float = 10.0
    kind: Kind = "link"
    _turns: dict[str, asyncio.Task[None]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def name(self) -> str:
        return f"{self.factor:g} times slower"

    def apply(self, member: Member) -> None:
        if member.name not in self._turns:
            self._turns[member.name] = asyncio.create_task(self._take_turns(member))

    async def undo(self, member: Member) -> None:
        task = self._turns.pop(member.name, None)
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        member.send(signal.SIGCONT)

    async def _take_turns(self, member: Member) -> None:
        running = TURN_SECONDS / self.factor
        while member.alive:
            member.send(signal.SIGSTOP)
            await asyncio.sleep(TURN_SECONDS - running)
            member.send(signal.SIGCONT)
            await asyncio.sleep(running)
