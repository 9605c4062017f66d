"""What waits to be sent to one peer, and in which order it goes. Knows nothing of sockets.

A message of one frame is urgent: it overtakes the pieces of larger ones, so that a prompt chunk never holds up another
session's decode row, nor a Ping. Larger messages go one after the other. Messages on different streams may therefore
overtake each other; the frames of one message never do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from swarm.wire.frames import Frame

MAX_URGENT_RUN_BYTES = 256 << 10  # after so many urgent bytes in a row one piece goes, so that nothing starves


class Outbox:
    """A queue with two lanes. Its owner bounds `bytes`."""

    def __init__(self) -> None:
        self._urgent: deque[Frame] = deque()
        self._bulk: deque[Frame] = deque()
        self._urgent_run = 0  # urgent bytes given out since the last piece
        self.bytes = 0  # waiting

    def push(self, frames: Sequence[Frame]) -> None:
        """Queue all frames of one message."""
        (self._urgent if len(frames) == 1 else self._bulk).extend(frames)
        self.bytes += sum(len(head) + len(body) for head, body in frames)

    def pop(self) -> Frame:
        """The frame to send next. IndexError when empty."""
        if self._urgent and (not self._bulk or self._urgent_run < MAX_URGENT_RUN_BYTES):
            frame = self._urgent.popleft()
            self._urgent_run += len(frame[0]) + len(frame[1])
        else:
            frame = self._bulk.popleft()
            self._urgent_run = 0
        self.bytes -= len(frame[0]) + len(frame[1])
        return frame

    def clear(self) -> None:
        self._urgent.clear()
        self._bulk.clear()
        self.bytes = 0

    def __bool__(self) -> bool:
        return bool(self._urgent or self._bulk)

    def __repr__(self) -> str:
        return f"Outbox(urgent={len(self._urgent)}, pieces={len(self._bulk)}, bytes={self.bytes})"
