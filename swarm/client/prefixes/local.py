"""Sessions of this process that have ended and whose rows others may begin with, as `prefixes.cache` has it for a swarm.

They count as free: they go, that of the least recent use first, as soon as somebody needs their place. Used in the compute
thread alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from swarm.client.prefixes.cache import LEAST_ROWS, Prompt
from swarm.client.prefixes.prefix import beginning, shared
from swarm.engine.backends import Stage
from swarm.precision import any_cut


@dataclass(slots=True, eq=False)
class _Ended:
    owner: str
    ids: tuple[int, ...]  # of the rows that another may begin with
    cache: Any


class LocalPrefixes:
    """Those of one stage."""

    def __init__(self, stage: Stage, max_kept: int) -> None:
        self._stage = stage
        self._max_kept = max_kept
        self._any_cut = any_cut(stage.numerics)
        self._ended: list[_Ended] = []  # the least recently used first

    def __len__(self) -> int:
        return len(self._ended)

    def begin(self, prompt: Prompt, max_rows: int) -> Any:
        """A cache that holds the first rows of a prompt, copied bit for bit; None: nobody had them."""
        parent, rows = self._longest(prompt)
        if parent is None:
            return None
        self._ended.remove(parent)
        self._ended.append(parent)
        cache = self._stage.open(max_rows)
        try:
            for layers in self._stage.copies(rows, self._stage.span):
                self._stage.copy(cache, parent.cache, rows, layers)
        except BaseException:  # whatever it is, the new cache's room is given back
            cache.close()
            raise
        return cache

    def _longest(self, prompt: Prompt) -> tuple[_Ended | None, int]:
        """The one that shares most of a prompt, and how many rows of it."""
        parent, most, ids = None, LEAST_ROWS - 1, prompt.ids[:-1]  # the last row has to be computed
        for each in reversed(self._ended):
            if each.owner != prompt.owner:
                continue
            rows = each.cache.beginning(beginning(shared(ids, each.ids), self._any_cut))
            if rows > most:
                parent, most = each, rows
        return (None, 0) if parent is None else (parent, most)

    def keep(self, prompt: Prompt, cache: Any) -> None:
        """A session has ended with its answer."""
        rows = cache.position if self._any_cut else beginning(min(len(prompt.ids), cache.position), False)
        if rows < LEAST_ROWS or not self._max_kept:
            cache.close()
            return
        kept = _Ended(prompt.owner, prompt.seen()[:rows], cache)
        for older in [each for each in self._ended if each.owner == kept.owner]:
            if older.ids == kept.ids[: len(older.ids)]:
                self._drop(older)  # whatever may begin with it may begin with this one
        cache.settle()
        self._ended.append(kept)
        while len(self._ended) > self._max_kept:
            self._drop(self._ended[0])

    def make_room(self, size: int, prompt: Prompt | None = None) -> None:
        """Until so many bytes are free, drop those used least recently; the one that a prompt may begin with comes last.

        None is dropped where that would not do.
        """
        pool = self._stage.pool
        parent = self._longest(prompt)[0] if prompt is not None else None
        going, free = [], pool.budget - pool.reserved
        for each in sorted(self._ended, key=lambda each: each is parent):
            if free >= size:
                break
            going.append(each)
            free += each.cache.settle()
        if free >= size:
            for each in going:
                self._drop(each)

    def close(self) -> None:
        for each in tuple(self._ended):
            self._drop(each)

    def _drop(self, ended: _Ended) -> None:
        self._ended.remove(ended)
        ended.cache.close()
