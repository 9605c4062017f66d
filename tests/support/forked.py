"""`swarm …` as a process that is forked where torch is loaded already, so that a worker serves after tenths of a second.

It is a process like any other for whoever talks to it, stops it or kills it. What only a new interpreter shows (what a command
imports, how soon it starts) is tested with `python -m swarm`.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from multiprocessing import forkserver
from multiprocessing.reduction import DupFd
from typing import IO
from unittest.mock import patch

PRELOADED = ["swarm.engine", "swarm.cli.serve", "swarm.node.layers"]
BEFORE_TORCH = {"OMP_NUM_THREADS": "1"}  # torch's libraries read it when they load


class Forked:
    """What `subprocess.Popen` offers, as far as tests use it: stdin and stdout are pipes, `errors` takes stderr."""

    def __init__(self, arguments: tuple[str, ...], environment: dict[str, str], errors: IO[bytes]) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        with patch.dict(os.environ, BEFORE_TORCH):
            forkserver.ensure_running()
        theirs_in, ours_in = os.pipe()
        ours_out, theirs_out = os.pipe()
        self.stdin: IO[bytes] = open(ours_in, "wb")  # noqa: SIM115  # closed by whoever started this
        self.stdout: IO[bytes] = open(ours_out, "rb")  # noqa: SIM115
        command = _Command(arguments, environment, (theirs_in, theirs_out, errors.fileno()))
        self._process = context.Process(target=command, daemon=True)
        self._process.start()
        os.close(theirs_in)
        os.close(theirs_out)
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code. Raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("swarm", timeout or 0.0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()


class _Command:
    """`swarm ARGUMENTS`, in the process that was forked for it. It is handed over with its open files."""

    def __init__(self, arguments: tuple[str, ...], environment: dict[str, str], files: tuple[int, ...]) -> None:
        self.arguments, self.environment, self.files = arguments, environment, files

    def __getstate__(self) -> tuple[object, ...]:
        return self.arguments, self.environment, [DupFd(file) for file in self.files]

    def __setstate__(self, state: tuple[object, ...]) -> None:
        self.arguments, self.environment, given = state  # type: ignore[assignment]
        self.files = tuple(each.detach() for each in given)  # type: ignore[attr-defined]

    def __call__(self) -> None:
        from swarm.cli import main

        os.setpgid(0, 0)
        for number, file in enumerate(self.files):
            os.dup2(file, number)
            os.close(file)
        # the fork server's own were made for other files
        sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
        os.environ.clear()
        os.environ.update(self.environment)
        main(self.arguments, prog_name="swarm")
