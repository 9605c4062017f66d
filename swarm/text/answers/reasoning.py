"""Answers that begin with what the model thinks for itself, between `<think>` and `</think>` (DeepSeek R1, Qwen 3 and others)."""

from __future__ import annotations

from typing import Literal

from swarm.text.answers.call_arguments import overlap
from swarm.text.answers.harmony import Thought
from swarm.text.answers.tool_calls import CallReader, Piece

OPEN, CLOSE = MARKS = ("<think>", "</think>")


class ReasoningReader:
    """As `CallReader`: what follows the thoughts goes on to `inner`, or is text. `inside`: the prompt has opened them."""

    def __init__(self, inside: bool, inner: CallReader | None) -> None:
        self._inner = inner
        self._held = ""
        self._state: Literal["before", "inside", "after", "out"] = "inside" if inside else "before"

    def push(self, text: str) -> list[Piece | Thought]:
        if self._state == "out":
            return self._out(text)
        self._held += text
        pieces: list[Piece | Thought] = []
        if self._state == "before":
            start = self._held.lstrip()
            if start.startswith(OPEN):
                self._held, self._state = start.removeprefix(OPEN), "inside"
            elif not OPEN.startswith(start):
                return self._leave(self._held)
        if self._state == "inside":
            pieces += self._inside()
        if self._state == "after" and (rest := self._held.lstrip("\n")):
            pieces += self._leave(rest)
        return pieces

    def finish(self, cut: bool = False) -> list[Piece | Thought]:
        """What was held back."""
        held, state = self._held, self._state
        pieces: list[Piece | Thought] = []
        if state == "inside" and held.strip():
            pieces.append(Thought(held.rstrip()))
        elif state == "before":
            pieces += self._leave(held)
        self._held, self._state = "", "out"
        return [*pieces, *(self._inner.finish(cut) if self._inner else [])]

    def _inside(self) -> list[Thought]:
        """Spaces at either end say nothing; those at the end are held back until more follows."""
        before, mark, after = self._held.partition(CLOSE)
        if mark:
            self._held, self._state = after, "after"
            ready = before.rstrip()
        else:
            ready = before[: len(before) - overlap(before, CLOSE)].rstrip()
            self._held = before[len(ready) :]
        return [Thought(ready)] if ready else []

    def _leave(self, text: str) -> list[Piece | Thought]:
        self._held, self._state = "", "out"
        return self._out(text)

    def _out(self, text: str) -> list[Piece | Thought]:
        if self._inner is not None:
            return [*self._inner.push(text)]
        return [text] if text else []
