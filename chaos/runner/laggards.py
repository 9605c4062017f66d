"""How many slow steps sessions ask of a worker that was slowed down before they begin to leave it. Pure: events and times in."""

from __future__ import annotations

from swarm.trace import Event

SLOW_SECONDS = 0.1  # a step that takes less is none of those that have to be left


class Laggards:
    """Tell it of strikes, and of every event of one client that has one session at a time."""

    def __init__(self) -> None:
        self.steps: dict[str, int] = {}  # peer -> slow steps that it computed before it was left
        self.left: set[str] = set()  # peers
        self._struck: set[str] = set()  # not left yet
        self._asked: dict[str, float] = {}  # peer -> when

    def struck(self, peer: str) -> None:
        self._struck.add(peer)
        self.steps.setdefault(peer, 0)

    def __call__(self, event: Event, now: float) -> None:
        peer = event.details.get("peer", "")
        match event.name, event.phase:
            case "hop.forward", "started":
                self._asked[peer] = now
            case "hop.forward", "complete":
                slow = now - self._asked.pop(peer, now) > SLOW_SECONDS
                if peer in self._struck:
                    self.steps[peer] += slow
            case "session.move", "started":
                self._struck.discard(peer)
            case "session.move", "complete" if peer in self.steps:
                self.left.add(peer)
