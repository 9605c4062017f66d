"""Streams that are closed, or that nobody reads any more: what was asked for happens all the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = 20.0


def bootstrap(folder: Path, **streams: int) -> subprocess.Popen[bytes]:
    arguments = ("bootstrap", "--host", "127.0.0.1", "--port", "0", "--key", str(folder / "key"))
    return subprocess.Popen([sys.executable, "-m", "swarm", *arguments], stdout=subprocess.PIPE, **streams)  # type: ignore[call-overload, no-any-return]


def stopped(process: subprocess.Popen[bytes]) -> int:
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"ready ")
    process.send_signal(signal.SIGINT)
    code = process.wait(SECONDS)
    process.stdout.close()
    return code


def test_a_signal_stops_a_server_whose_stderr_nobody_reads_any_more(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    process = bootstrap(tmp_path, stderr=writer)
    os.close(writer)
    os.close(reader)  # as `2>&1 | tee` that Ctrl-C ended first
    assert stopped(process) == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_server_starts_and_stops_where_stderr_takes_nothing(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        process = bootstrap(tmp_path, stderr=full.fileno())
    assert stopped(process) == 0


def test_a_command_without_stdout_says_what_is_wrong_in_a_line(tmp_path: Path) -> None:
    command = f"exec {sys.executable} -m swarm client --local --model {tmp_path / 'none'} hello >&-"
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, text=True, timeout=SECONDS, check=False)
    assert (done.returncode, done.stderr.count("\n"), done.stderr[:7]) == (2, 1, "swarm: ")
