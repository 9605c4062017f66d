"""Which tokens of a text are judged, and after which others. llama-perplexity's rule, so that figures can be compared:

a text's tokens are cut into windows of one size, what is left over at the end is left out; each window is read from an empty
cache, with the mark of a text's beginning in the place of its first token where the tokenizer sets one; of each the tokens of
the second half are judged, less the first of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from swarm.errors import UsageFault


@dataclass(frozen=True, slots=True)
class Window:
    """Tokens that are read from an empty cache."""

    ids: tuple[int, ...]

    @property
    def first(self) -> int:
        """The first row that is judged, by what it says of the token after it."""
        return len(self.ids) // 2

    @property
    def judged(self) -> tuple[int, ...]:
        """The tokens that rows `first` to the last but one should have said."""
        return self.ids[self.first + 1 :]


def windows_of(ids: Sequence[int], size: int, most: int, beginning: int | None) -> list[Window]:
    """At most `most` windows. Raises UsageFault where a text has not even one."""
    whole = min(len(ids) // size, most)
    if not whole:
        raise UsageFault(
            f"--quality: the text has {len(ids)} tokens, less than one window of {size}: name a longer one"
        )
    found = []
    for start in range(0, whole * size, size):
        read = list(ids[start : start + size])
        if beginning is not None:
            read[0] = beginning
        found.append(Window(tuple(read)))
    return found
