"""Who may begin a handshake: bounds on strangers, who have proved no key yet. Pure: time is passed in.

Two things are scarce. Places: a connection that says nothing costs a file and some memory. When all places are taken, the block
that has most of them gives up its oldest to a newcomer from a block with fewer; so a flood from one place shuts nobody else out,
and a crowd that comes from one place all at once has every place while nobody else wants one. And computing time: a handshake
takes about a millisecond, so each block's bytes are counted (a handshake as HANDSHAKE_BYTES at least) and may come at a
rate, with a burst saved up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass

from swarm.config import ChannelConfig

HANDSHAKE_BYTES = 1 << 10  # about what an honest one takes
MAX_HANDSHAKE_BYTES = 16 << 10  # of one connection, until it has proved a key
SILENT_SECONDS = 1.0  # an honest dialler speaks at once; one silent for so long makes room even for its own neighbours
MAX_BUDGETS = 4096  # blocks that are remembered


@dataclass(slots=True)
class _Begun:
    block: bytes
    since: float
    silent: bool = True


@dataclass(slots=True)
class _Budget:
    """Bytes that a block may send now."""

    level: float
    at: float


class Handshakes:
    """All unfinished ones. A key is whatever names one."""

    def __init__(self, config: ChannelConfig) -> None:
        self._config = config
        self._begun: dict[Hashable, _Begun] = {}  # oldest first
        self._blocks: Counter[bytes] = Counter()
        self._budgets: dict[bytes, _Budget] = {}

    def __len__(self) -> int:
        return len(self._begun)

    def room(self, block: bytes, now: float) -> tuple[str | None, Hashable]:
        """Why this block may begin none now, or None; then also whom it takes the place of, if anybody."""
        if self._budget(block, now).level <= 0:
            return (
                f"more than {self._config.early_bytes_per_second} bytes a second of its block before proving a key",
                None,
            )
        if len(self._begun) < self._config.max_handshakes:
            return None, None
        ((most, count),) = self._blocks.most_common(1)
        oldest, begun = next((key, begun) for key, begun in self._begun.items() if begun.block == most)
        idle = begun.silent and now - begun.since >= SILENT_SECONDS
        if count > self._blocks[block] + 1 or idle:
            return None, oldest
        return f"{len(self._begun)} handshakes are unfinished", None

    def begin(self, key: Hashable, block: bytes, now: float) -> None:
        self._begun[key] = _Begun(block, now)
        self._blocks[block] += 1

    def spoke(self, key: Hashable, size: int, now: float) -> str | None:
        """So many bytes came. Why no more are taken; None if they are."""
        begun = self._begun.get(key)
        if begun is None:
            return None
        budget = self._budget(begun.block, now)
        budget.level -= max(size, HANDSHAKE_BYTES) if begun.silent else size
        begun.silent = False
        return (
            None if budget.level > -self._config.early_burst_bytes else "its block sends too much before proving a key"
        )

    def end(self, key: Hashable) -> None:
        """It is finished, failed or was given up. Ending twice does nothing."""
        begun = self._begun.pop(key, None)
        if begun is not None:
            self._blocks[begun.block] -= 1
            if not self._blocks[begun.block]:
                del self._blocks[begun.block]

    def _budget(self, block: bytes, now: float) -> _Budget:
        budget = self._budgets.get(block)
        burst = float(self._config.early_burst_bytes)
        if budget is None:
            if len(self._budgets) >= MAX_BUDGETS:
                self._forget(now)
            budget = self._budgets[block] = _Budget(burst, now)
        budget.level = min(burst, budget.level + (now - budget.at) * self._config.early_bytes_per_second)
        budget.at = now
        return budget

    def _forget(self, now: float) -> None:
        """Blocks that have saved up everything again; else the one that was heard of longest ago."""
        seconds = 2 * self._config.early_burst_bytes / self._config.early_bytes_per_second
        old = [block for block, budget in self._budgets.items() if now - budget.at > seconds]
        for block in old or [min(self._budgets, key=lambda block: self._budgets[block].at)]:
            del self._budgets[block]

    def __repr__(self) -> str:
        return f"Handshakes({len(self._begun)} of {len(self._blocks)} blocks)"
