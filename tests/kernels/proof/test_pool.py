"""The pool of threads under ThreadSanitizer: nobody reads what another writes at that moment, however many threads there are."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from swarm.kernels.building import SOURCE

pytestmark = pytest.mark.kernels

DRIVER = Path(__file__).parent / "pool" / "pool.c"
JOBS = 30_000
WATCHED = ("-O1", "-g1", "-std=gnu11", "-Wall", "-Werror", "-fsanitize=thread", f"-I{SOURCE}")
TIMEOUT_S = 60


def test_callers_and_changes_of_the_number_of_threads_race_for_nothing(command: list[str], tmp_path: Path) -> None:
    program = tmp_path / "pool"
    sources = [str(DRIVER), str(SOURCE / "pool.c")]
    subprocess.run([*command, *WATCHED, *sources, "-pthread", "-o", str(program)], check=True)
    done = subprocess.run([program, str(JOBS)], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert (done.returncode, done.stdout) == (0, "0 wrong\n"), done.stderr
