"""What a fault is. One file each beside this one; README.md there says how to write one."""

from __future__ import annotations

from typing import Literal, Protocol

from chaos.farm import Member

Kind = Literal["crash", "stall", "link"]


class Fault(Protocol):
    """Something bad that can be done to a process or its link, and ended again."""

    @property
    def name(self) -> str:
        """As the picture shows it while it is in force."""
        ...

    @property
    def kind(self) -> Kind:
        """Which promise the recovery is held to: a dead process, a silent one, or neither."""
        ...

    def apply(self, member: Member) -> None:
        """At once: a scenario says the very moment."""
        ...

    async def undo(self, member: Member) -> None:
        """The member is as before when this returns. Harmless if nothing is in force."""
        ...
