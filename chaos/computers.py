"""Computers that differ in what must not change a bit: threads, instruction set, and the compiler that built the kernels."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from swarm.errors import LocalFault
from swarm.kernels import library
from swarm.kernels.library import FILE_VARIABLE, PATH_VARIABLE

OTHER_VARIABLE = "SWARM_OTHER_CC"  # environment: the command of a C compiler other than the one that installed swarm
MOST_THREADS = 3
OTHER_EVERY = 3  # one in so many has its kernels from the other compiler

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Computer:
    """What one worker computes with."""

    threads: int
    path: str  # of `Library.paths`
    library: Path | None = None  # built by another compiler; None: the one that is installed

    @property
    def environment(self) -> dict[str, str]:
        """Of a process that computes so."""
        return {PATH_VARIABLE: self.path} | ({} if self.library is None else {FILE_VARIABLE: str(self.library)})

    def settle(self) -> None:
        """This process computes so from now on, by the library that it has."""
        kernels = library()
        assert kernels is not None
        if kernels.path != self.path:
            kernels.choose(self.path)
        if kernels.threads != self.threads:
            kernels.set_threads(self.threads)

    def __str__(self) -> str:
        built = "" if self.library is None else f", built by {self.library.stem}"
        return f"{self.path}, {self.threads} {'thread' if self.threads == 1 else 'threads'}{built}"


class Computes(Protocol):
    """`swarm.engine.compute_thread.ComputeThread`, or what stands for it."""

    async def run(self, function: Callable[[], T]) -> T: ...


class ComputesAs:
    """A compute thread, or what stands for one, that computes as a computer does."""

    def __init__(self, compute: Computes, computer: Computer) -> None:
        self._compute, self._computer = compute, computer

    async def run(self, function: Callable[[], T]) -> T:
        def settled() -> T:
            self._computer.settle()
            return function()

        return await self._compute.run(settled)


@contextmanager
def restored() -> Iterator[None]:
    """Afterwards this process computes as it did before."""
    kernels = library()
    before = None if kernels is None else Computer(kernels.threads, kernels.path)
    try:
        yield
    finally:
        if before is not None:
            before.settle()


def unlike(count: int, other: Path | None = None) -> list[Computer]:
    """So many of this machine's instruction sets and of thread counts; some of them with the library `other`.

    Those next to each other differ. Raises LocalFault where the kernels were not built.
    """
    kernels = library()
    if kernels is None:
        raise LocalFault("the portable kernels are not there: swarm was installed without a C compiler")
    paths = kernels.paths()
    return [
        Computer(
            threads=1 + (number + number // len(paths)) % MOST_THREADS,
            path=paths[number % len(paths)],
            library=other if number % OTHER_EVERY == OTHER_EVERY - 1 else None,
        )
        for number in range(count)
    ]


def build_other(folder: Path) -> Path | None:
    """The kernels by another compiler, named after it; None where there is none. Takes half a minute."""
    if importlib.util.find_spec("setuptools") is None:  # of which the build is a part
        return None
    from swarm.kernels import building

    found = other_compiler(building.compiler())
    if found is None:
        return None
    name, command = found
    building.build_library(folder / f"{name}.so", command)
    return folder / f"{name}.so"


def other_compiler(usual: Sequence[str] | None) -> tuple[str, list[str]] | None:
    """Name and command of the one that the environment names, or of the first that is not the `usual` one."""
    if named := os.environ.get(OTHER_VARIABLE):
        words = shlex.split(named)
        return "ziglang" if "ziglang" in words else Path(words[0]).name, words
    if importlib.util.find_spec("ziglang") is not None:
        return "ziglang", [sys.executable, "-m", "ziglang", "cc"]
    taken = shutil.which(usual[0]) if usual else None
    for name in ("clang", "gcc"):
        place = shutil.which(name)
        if place is not None and (taken is None or Path(place).resolve() != Path(taken).resolve()):
            return name, [place]
    return None
