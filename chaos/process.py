"""`python -m chaos.process --faults FILE worker …`: a swarm command with faults inside, read from a file while it runs.

FILE holds a JSON object: `skew` (seconds that this process' clock is ahead), `lie` and `when` (see `chaos.liars`),
`allocation` (true: memory for sessions cannot be had). It is looked at whenever one of them matters, so that a change is felt at
once. Everything else is the command as users start it. Knows nothing of farms or scenarios.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from swarm.engine import SessionCache, Stage

IMPOSSIBLE_BYTES = 1 << 60  # torch is asked for so many, to fail as it does when there is no memory
LIE_SEED = 1  # liars of one kind agree with each other


@dataclass(frozen=True, slots=True)
class Inside:
    """The faults that are in force."""

    skew: float = 0.0
    lie: str | None = None
    when: str = "always"  # or "replays": decode rows that come several at once
    allocation: bool = False


class FaultFile:
    """What the file says now. One that is absent says nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int] | None = None
        self._inside = Inside()

    def __call__(self) -> Inside:
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            return Inside()
        if (status.st_ino, status.st_mtime_ns) != self._seen:
            given: dict[str, Any] = json.loads(self.path.read_text())
            self._inside = Inside(**given)
            self._seen = status.st_ino, status.st_mtime_ns
        return self._inside


def write_faults(path: Path, **changes: Any) -> None:
    """Change what a process' file says, at once for whoever reads it. A field's default takes the fault back."""
    given: dict[str, Any] = {}
    with suppress(FileNotFoundError):
        given = json.loads(path.read_text())
    assert changes.keys() <= {field.name for field in fields(Inside)}, changes
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(given | changes))
    temporary.replace(path)


def skew_clock(inside: Callable[[], Inside]) -> None:
    """Before anything of swarm is imported: all of it shall read this clock, also what takes `time.time` as a default."""
    right = time.time
    time.time = lambda: right() + inside().skew


def spoil_stage(inside: Callable[[], Inside]) -> None:
    """Whatever stage the worker loads lies and lacks memory as the faults say."""
    import torch

    from swarm.engine import SessionCache, Stage
    from swarm.engine.backends import own

    allocate = SessionCache._allocate

    def allocate_perhaps(cache: SessionCache, layer: int, capacity: int) -> Tensor:
        if inside().allocation:
            torch.empty(IMPOSSIBLE_BYTES, dtype=torch.uint8)
        return allocate(cache, layer, capacity)

    class Loader:
        """In the place of the class that the worker loads its stage with."""

        @staticmethod
        def load(*given: Any, **named: Any) -> Turncoat:
            return Turncoat(Stage.load(*given, **named), inside)

    for owner, name, instead in ((SessionCache, "_allocate", allocate_perhaps), (own, "Stage", Loader)):
        setattr(owner, name, instead)


class Turncoat:
    """An honest stage that turns into any liar, and back. Sessions keep their caches."""

    def __init__(self, honest: Stage, inside: Callable[[], Inside]) -> None:
        self._honest = honest
        self._inside = inside
        self._liars: dict[tuple[str, str], Stage] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._honest, name)

    def chunk(self, cache: SessionCache, rows: Tensor) -> Tensor:
        return self._stage().chunk(cache, rows)

    def decode(self, work: Sequence[tuple[SessionCache, Tensor]]) -> list[Tensor]:
        return self._stage().decode(work)

    def tensor(self, rows: Tensor) -> Any:
        return self._stage().tensor(rows)

    def _stage(self) -> Stage:
        from chaos.liars import Lie, always, in_replays, lie

        inside = self._inside()
        if inside.lie is None:
            return self._honest
        key = inside.lie, inside.when
        if key not in self._liars:
            moment = in_replays if inside.when == "replays" else always
            self._liars[key] = lie(self._honest, Lie(inside.lie), LIE_SEED, moment)
        return self._liars[key]


def fill_disk() -> None:
    """No file can be written to: the nearest to a full disk that needs no root. Pipes are no files."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def main(words: Sequence[str]) -> None:
    """`[--full-disk] [--faults FILE] COMMAND …`"""
    given = list(words)
    if given[:1] == ["--full-disk"]:
        given.pop(0)
        fill_disk()
    if given[:1] == ["--faults"]:
        inside = FaultFile(Path(given[1]))
        del given[:2]
        skew_clock(inside)
        if given[:1] == ["worker"]:
            spoil_stage(inside)
    from swarm.cli import main as swarm

    swarm(given, prog_name="swarm")


if __name__ == "__main__":
    main(sys.argv[1:])
