"""OpenAI's Harmony format: an answer in channels, `<|channel|>NAME to=functions.F …<|message|>WORDS<|end|>`.

`final` is for the reader, other channels are the model's own thoughts; what is addressed to a function is a call of it. Ends are
`<|end|>`, `<|call|>` and `<|return|>`. Source: OpenAI's description of the format that came with gpt-oss.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from swarm.text.answers.call_arguments import overlap
from swarm.text.answers.tool_calls import MAX_CALLS, Call, More

CHANNEL, MESSAGE, ENDS = "<|channel|>", "<|message|>", ("<|end|>", "<|call|>", "<|return|>")
MAX_HEADER_CHARACTERS = 4096
_HEADER = re.compile(r"\s*(?P<channel>\w*)(?:\s+to=(?P<to>[\w.-]+))?")


@dataclass(frozen=True, slots=True)
class Thought:
    """What the model writes for itself."""

    text: str


Piece = str | Call | More | Thought


class HarmonyReader:
    """As `CallReader`, for answers in channels."""

    def __init__(self) -> None:
        self._held = ""
        self._channel: str | None = None  # whose words come now; None between messages
        self._to: str | None = None  # the function that they are for
        self._named = False  # the call that is open has been told
        self._written = False  # some of its arguments, too
        self.calls = 0

    def push(self, text: str) -> list[Piece]:
        self._held += text
        return self._read(last=False, cut=False)

    def finish(self, cut: bool = False) -> list[Piece]:
        """What was held back."""
        return self._read(last=True, cut=cut)

    def _read(self, last: bool, cut: bool) -> list[Piece]:
        pieces: list[Piece] = []
        while (more := self._header() if self._channel is None else self._words(last, cut)) is not None:
            pieces += more
        return pieces

    def _header(self) -> list[Piece] | None:
        """Into the next message, if its header is whole. Whatever stands between messages says nothing to anybody."""
        before, mark, header = self._held.partition(CHANNEL)
        if not mark:
            self._held = before[-MAX_HEADER_CHARACTERS:]
            return None
        header, mark, words = header.partition(MESSAGE)
        if not mark:
            self._held = CHANNEL + header[:MAX_HEADER_CHARACTERS]
            return None
        found = _HEADER.match(header)
        assert found is not None  # it matches nothing at all, too
        self._channel, self._to, self._held = found["channel"] or "final", found["to"], words
        return []

    def _words(self, last: bool, cut: bool) -> list[Piece] | None:
        """Of the message that is open."""
        text = self._held
        found = min(((place, end) for end in ENDS if (place := text.find(end)) >= 0), default=None)
        if self._to is not None:
            return self._call(text, found, last, cut)
        held = 0 if found or last else max(overlap(text, end) for end in ENDS)
        ready = text[: found[0]] if found else text[: len(text) - held]
        piece: list[Piece] = [ready if self._channel == "final" else Thought(ready)] if ready else []
        if found:
            self._leave(text[found[0] + len(found[1]) :])
            return piece
        self._held = text[len(ready) :]
        return piece or None

    def _call(self, text: str, found: tuple[int, str] | None, last: bool, cut: bool) -> list[Piece] | None:
        """Its name at once, and its arguments as they come; blanks around them say nothing."""
        pieces: list[Piece] = []
        if not self._named:
            self._named, self._written = True, False
            self.calls += 1
            pieces.append(Call((self._to or "").removeprefix("functions."), "", whole=False))
        held = 0 if found or last else max(overlap(text, end) for end in ENDS)
        ready = text[: found[0]] if found else text[: len(text) - held]
        words = (ready if self._written else ready.lstrip()).rstrip()
        ended = found is not None or last
        self._held = text[len(ready.rstrip()) if self._written or words else len(ready) :]
        self._written = self._written or bool(words)
        if words:
            pieces.append(More(words))
        if ended:
            if found is not None or not cut:
                pieces.append(More("" if self._written else "{}", last=True))
            self._leave("" if found is None else text[found[0] + len(found[1]) :])
        return (pieces if self.calls <= MAX_CALLS else []) if pieces or ended else None

    def _leave(self, rest: str) -> None:
        self._channel, self._to, self._held, self._named = None, None, rest, False
