"""Real swarm processes for tests. They leave when the test process does, however that ends."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from support.forked import Forked

START_SECONDS = 60.0
END_SECONDS = 30.0


class SwarmProcess:
    """`swarm ARGUMENTS` as a process. `ready()` waits until it serves."""

    def __init__(
        self,
        *arguments: str,
        watched: bool = True,
        env: dict[str, str] | None = None,
        stdin: int = subprocess.PIPE,
        forked: bool = False,
    ) -> None:
        self.arguments = arguments
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `close`
        words = (*arguments, *(["--exit-with-stdin"] if watched else []))
        environment = os.environ | {"SWARM_BOOTSTRAP": "", "SWARM_KEY": "", "OMP_NUM_THREADS": "1"} | (env or {})
        self.process: subprocess.Popen[bytes] | Forked
        if forked:
            self.process = Forked(words, environment, self._errors)
        else:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "swarm", *words],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=environment,
                process_group=0,
            )
        if not watched and "-" not in arguments and self.process.stdin is not None:
            self.process.stdin.close()  # a client with a PROMPT would await what comes by it
        self.address = ""
        self.peer = ""

    @classmethod
    def server(
        cls, mode: str, folder: Path, *arguments: str, watched: bool = True, forked: bool = True
    ) -> SwarmProcess:
        """A bootstrap or worker on a free port of loopback, with a key of its own."""
        key = folder / f"{mode}-{time.monotonic_ns()}.key"
        place = ("--host", "127.0.0.1", "--port", "0", "--key", str(key))
        return cls(mode, *place, *arguments, watched=watched, forked=forked)

    def ready(self) -> SwarmProcess:
        """Once it serves: address and peer are known."""
        if self.peer:
            return self
        line = self.read_until(b"\n").decode()
        word, address, peer = [*line.split(), "", "", ""][:3]
        assert word == "ready", f"{self.arguments} said {line!r}:\n{self.errors()}"
        self.address, self.peer = address, peer
        return self

    def read_until(self, end: bytes | None, seconds: float = START_SECONDS) -> bytes:
        """stdout up to and with `end`, or what came until it ended. None: to its end."""
        assert self.process.stdout is not None
        descriptor, until, got = self.process.stdout.fileno(), time.monotonic() + seconds, b""
        while end is None or not got.endswith(end):
            readable, _, _ = select.select([descriptor], [], [], max(0.0, until - time.monotonic()))
            assert readable, f"{self.arguments} said {got!r} and no more for {seconds} s:\n{self.errors()}"
            byte = os.read(descriptor, 1)
            if not byte:
                break
            got += byte
        return got

    def read_some(self) -> bytes:
        """The first byte."""
        assert self.process.stdout is not None
        return self.process.stdout.read(1)

    def rest(self, seconds: float = END_SECONDS) -> bytes:
        """stdout to its end, and the end of the process."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        out = self.read_until(None, seconds)
        self.process.wait(seconds)
        return out

    def errors(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")

    def end(self, number: int = signal.SIGTERM, seconds: float = END_SECONDS) -> int:
        """Send a signal; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(seconds)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for file in (self.process.stdin, self.process.stdout, self._errors):
            if file is not None:
                file.close()


def close_all(processes: Iterable[SwarmProcess]) -> None:
    for process in processes:
        process.close()
