"""What happens in the swarm while somebody chats: told when it does not spoil the text. Heard on the client's thread."""

from __future__ import annotations

import sys
from collections import deque
from typing import TextIO

from swarm.cli.answer.output import Output, sentence_of
from swarm.trace import Event

MAX_HELD = 64  # notes that wait to be shown; older ones are lost


class ChatOutput(Output):
    """While an answer is shown (`hold`) notes wait until they are asked for (`take`); a failover is told in one line."""

    def __init__(self, text: TextIO | None = None, notes: TextIO | None = None) -> None:
        super().__init__(text, notes)
        self._to = notes  # None: whatever stderr is by then, as an editor puts itself in its place
        self._held: deque[str] = deque(maxlen=MAX_HELD)
        self._holding = False
        self._failed = ""  # who is being replaced
        self.under_way = ""  # what the answer waits for

    def new_line(self) -> None:
        """Somebody typed: what was told before may be told once more."""
        self._last = ""

    def hold(self) -> None:
        self._holding = True

    def take(self) -> list[str]:
        """What is to be told."""
        taken = []
        while self._held:
            taken.append(self._held.popleft())
        return taken

    def release(self) -> None:
        """The answer is over."""
        self._holding = False
        self.under_way = self._failed = ""
        for text in self.take():
            self.note(text)

    def note(self, text: str) -> None:
        self._notes = self._to or sys.stderr
        super().note(text)

    def listen(self, event: Event) -> None:
        sentence = sentence_of(event)
        if not sentence:
            return
        details = event.details
        if self._holding and (event.name, event.phase) == ("session.failover", "started"):
            self._failed, self.under_way = str(details.get("peer")), sentence
            return
        if (event.name, event.phase) == ("session.failover", "complete"):
            if self._failed:  # why is told by /chain
                sentence = (
                    f"layers {details.get('layers')} moved from {self._failed} to {details.get('to')} in "
                    f"{details.get('seconds')} s, {details.get('rows')} rows replayed"
                )
            self._failed = self.under_way = ""
        elif (event.name, event.phase) == ("session.wait", "failed"):
            if sentence == self.under_way:
                return
            self.under_way = sentence
        if self._holding:
            self._held.append(sentence)
        else:
            self.note(sentence)
