"""Swarm processes that never outlive whoever started them, on loopback. Knows nothing of what they are for.

Each child leaves when its stdin ends (`--exit-with-stdin`), so even SIGKILL of this process leaves none behind.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Self

from swarm.errors import LocalFault
from swarm.identity import PeerId

START_SECONDS = 120.0  # until a child says that it serves
SHOWN_LOG_BYTES = 2000  # of a child that failed
FOREIGN = ("SWARM_BOOTSTRAP", "SWARM_KEY")  # what the environment says of the user's own swarm


@dataclass(frozen=True, slots=True)
class Child:
    """A process that serves."""

    process: asyncio.subprocess.Process
    address: str  # HOST:PORT
    peer_id: PeerId

    def kill(self) -> None:
        """SIGKILL: it has no chance to say anything."""
        with suppress(ProcessLookupError):
            self.process.kill()


class Processes:
    """`async with Processes() as processes: await processes.start("bootstrap", …)`. Leaving kills and reaps every one."""

    def __init__(self) -> None:
        self._started: list[asyncio.subprocess.Process] = []
        self._numbers = count()
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    async def __aenter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="swarm-")
        return self

    async def __aexit__(self, *exc: object) -> None:
        for process in self._started:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        await asyncio.gather(*(process.wait() for process in self._started))
        for process in self._started:
            assert process.stdin is not None
            process.stdin.close()
        assert self._folder is not None
        self._folder.cleanup()

    async def start(self, *arguments: str) -> Child:
        """`swarm ARGUMENTS`, with a passing key, on a free port of loopback. Returns once it serves. Raises LocalFault."""
        assert self._folder is not None
        stem = Path(self._folder.name) / f"{next(self._numbers)}"
        log = stem.with_suffix(".log")
        with log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                *_command(arguments, stem.with_suffix(".key")),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env={name: value for name, value in os.environ.items() if name not in FOREIGN},
                process_group=0,  # Ctrl-C at the terminal is for this process alone
            )
        self._started.append(process)
        assert process.stdout is not None
        try:
            async with asyncio.timeout(START_SECONDS):
                line = (await process.stdout.readline()).decode()
        except TimeoutError:
            line = ""
        word, _, rest = line.strip().partition(" ")
        if word != "ready":
            raise LocalFault(f"`swarm {' '.join(arguments)}` does not serve: {_tail(log) or 'it said nothing'}")
        address, _, peer = rest.partition(" ")
        return Child(process, address, PeerId.parse(peer))


def _command(arguments: Sequence[str], key: Path) -> list[str]:
    own = ["--host", "127.0.0.1", "--port", "0", "--key", str(key), "--exit-with-stdin"]
    # -P: a folder `swarm` where this was started, such as a clone, is not taken for the package
    return [sys.executable, "-P", "-m", "swarm", *arguments, *own]


def _tail(log: Path) -> str:
    return log.read_bytes()[-SHOWN_LOG_BYTES:].decode(errors="replace").strip()
