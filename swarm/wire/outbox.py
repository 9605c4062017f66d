"""What waits to be sent to one peer, and in which order it goes. Knows nothing of sockets.

A message of one frame is urgent: it overtakes the pieces of larger ones, so that a prompt chunk never holds up another
session's decode row. Larger messages go one after the other, in pieces as small as the moment asks for. Messages on
different streams may therefore overtake each other; the frames of one message never do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from swarm.wire import frames
from swarm.wire.frames import Frame

MAX_URGENT_RUN_BYTES = 256 << 10  # after so many urgent bytes in a row a piece goes, so that nothing starves


class Outbox:
    """A queue with two lanes. Its owner bounds `bytes`."""

    def __init__(self) -> None:
        self._urgent: deque[Frame] = deque()
        self._bulk: deque[Frame] = deque()
        self._urgent_run = 0  # urgent bytes given out since the last piece
        self.bytes = 0  # waiting

    @property
    def bulk(self) -> bool:
        """Whether pieces of large messages wait."""
        return bool(self._bulk)

    @property
    def urgent_frames(self) -> int:
        return len(self._urgent)

    def push(self, message: Sequence[Frame], *, in_turn: bool = False) -> None:
        """Queue all frames of one message. One that goes in its turn overtakes no larger one, however small it is."""
        (self._urgent if len(message) == 1 and not in_turn else self._bulk).extend(message)
        self.bytes += sum(map(_size, message))

    def pop(self, piece_bytes: int) -> tuple[Frame, bool] | None:
        """The frame to send next, and whether it is a piece of a large message, then with `piece_bytes` of body at most.

        With 0 for `piece_bytes`, pieces have to wait. None when there is nothing to send.
        """
        if self._urgent and not (self._bulk and piece_bytes and self._urgent_run >= MAX_URGENT_RUN_BYTES):
            frame = self._urgent.popleft()
            self._urgent_run += _size(frame)
            self.bytes -= _size(frame)
            return frame, False
        if not self._bulk or not piece_bytes:
            return None
        self._urgent_run = 0
        frame = self._bulk.popleft()
        self.bytes -= _size(frame)
        if len(frame[1]) > piece_bytes:
            frame, rest = frames.split(frame, piece_bytes)
            self._bulk.appendleft(rest)
            self.bytes += _size(rest)
        return frame, True

    def clear(self) -> None:
        self._urgent.clear()
        self._bulk.clear()
        self.bytes = 0

    def __bool__(self) -> bool:
        return bool(self._urgent or self._bulk)

    def __repr__(self) -> str:
        return f"Outbox(urgent={len(self._urgent)}, pieces={len(self._bulk)}, bytes={self.bytes})"


def _size(frame: Frame) -> int:
    return len(frame[0]) + len(frame[1])
