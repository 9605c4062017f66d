"""Keys that are pressed while an answer comes: some steer it, the others are kept for the next line."""

from __future__ import annotations

import codecs
import os
import select
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

MAX_AHEAD = 64 << 10  # characters kept for the next line
CHUNK_BYTES = 4096
END = "\x04"  # Ctrl-D


class Press(Enum):
    """What a key asks for."""

    STOP = "stop"  # the answer ends here
    LEAVE = "leave"  # the chat ends when the answer does


class Ahead:
    """What was typed. Pure."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace")
        self.text = ""  # for the next line

    def typed(self, raw: bytes) -> Press | None:
        """Space alone stops, Ctrl-D leaves; both are part of a line once one was begun."""
        press: Press | None = None
        for character in self._decode.decode(raw):
            if not self.text and character in (" ", END):
                press = Press.LEAVE if character == END or press is Press.LEAVE else Press.STOP
            elif len(self.text) < MAX_AHEAD:
                self.text += character
        return press

    def take(self) -> str:
        text, self.text = self.text, ""
        return text


class Keys:
    """Reads a terminal that `held` holds."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._ahead = Ahead()

    def pressed(self, seconds: float) -> Press | None:
        """Waits so long at most."""
        ready, _, _ = select.select([self._descriptor], [], [], seconds)
        if not ready:
            return None
        try:
            raw = os.read(self._descriptor, CHUNK_BYTES)
        except OSError:
            raw = b""
        return self._ahead.typed(raw) if raw else Press.LEAVE  # the terminal is gone

    def take(self) -> str:
        """What was typed for the next line."""
        return self._ahead.take()


@contextmanager
def held(descriptor: int) -> Iterator[None]:
    """Keys arrive one by one and are not echoed; nothing that was typed is lost when it begins or ends."""
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor, termios.TCSANOW)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)
