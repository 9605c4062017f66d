"""What a fault is. One file each beside this one; README.md there says how to write one."""

from __future__ import annotations

from typing import Literal, Protocol

from chaos.farm import Member

Kind = Literal["crash", "stall", "link", "lie"]


class Fault(Protocol):
    """Something bad that can be done to a process or its link, and ended again."""

    @property
    def name(self) -> str:
        """As the picture shows it while it is in force."""
        ...

    @property
    def kind(self) -> Kind:
        """Which promise it is held to: of a dead process, of a silent one, of one that lies, or none."""
        ...

    def apply(self, member: Member) -> None:
        """At once: a scenario says the very moment."""
        ...

    async def undo(self, member: Member) -> None:
        """The member is as before when this returns. Harmless if nothing is in force."""
        ...
