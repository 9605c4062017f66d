"""What befell a session: which workers were replaced by which, and whether its rows are still of one numerics class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from swarm.client.hops.session import HopSession
from swarm.identity import PeerId
from swarm.span import LayerSpan
from swarm.trace import Trace


@dataclass(frozen=True, slots=True)
class Recovery:
    """One worker replaced in the course of a session."""

    peer_id: PeerId  # the one that was left
    span: LayerSpan  # its layers
    cause: str  # the error's text
    position: int  # rows that were replayed
    replacements: tuple[PeerId, ...]
    seconds: float  # from the error to the replacement being level
    moved: bool = False  # it had not failed: it was slow, and went on until the replacement was level


class Recoveries:
    """Of one session. Tells the trace."""

    def __init__(self, trace: Trace) -> None:
        self.all: list[Recovery] = []
        self.exact = True  # False once rows of another numerics class were let in
        self._trace = trace

    def opened(self, links: Sequence[HopSession]) -> None:
        """With these links the session begins."""
        self.exact = len({link.numerics for link in links}) == 1
        if not self.exact:
            self._tell_inexact(links, opening=True)

    def replaced(
        self,
        old: HopSession,
        new: Sequence[HopSession],
        links: Sequence[HopSession],
        cause: str,
        seconds: float,
        *,
        moved: bool = False,
    ) -> None:
        """New links are in the place of an old one, and `links` are all there are."""
        changed = old.inputs.length and any(link.numerics != old.numerics for link in new)
        mixed = len({link.numerics for link in links}) > 1
        if changed or (mixed and self.exact):  # what is known already is not told again
            self.exact = False  # rows of another class have other bits, be it only those that are still to come
            self._tell_inexact(links, opening=False)
        to = tuple(link.hop.peer_id for link in new)
        self.all.append(Recovery(old.hop.peer_id, old.hop.span, cause, old.inputs.length, to, seconds, moved))
        self._trace.complete(
            "session.move" if moved else "session.failover",
            peer=old.hop.peer_id.short,
            layers=old.hop.span,
            to=", ".join(peer_id.short for peer_id in to),
            rows=old.inputs.length,
            seconds=round(seconds, 3),
        )

    def _tell_inexact(self, links: Sequence[HopSession], *, opening: bool) -> None:
        numerics = ",".join(link.numerics for link in links)
        self._trace.failed("session.exactness", opening=opening, numerics=numerics)
