"""The engine's portable tests by kernels that AddressSanitizer and UBSan watch: what Python hands over is what C was promised."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from kernels.proof.conftest import SANITIZED

from swarm.kernels.building import build_library
from swarm.kernels.library import FILE_VARIABLE

pytestmark = pytest.mark.kernels

REPOSITORY = Path(__file__).parents[3]
CHOSEN = ("tests/engine/portable", "tests/kernels/test_rounding.py", "tests/kernels/test_blocks.py")
TIMEOUT_S = 300  # of what takes half a minute alone
RUNTIMES = ("libasan.so", "libubsan.so")
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0",  # of a Python that ends there are many
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
}


def runtimes(command: list[str]) -> list[str]:
    """The compiler's libraries that have to be there before Python is; none where it says no place of them."""
    asked = [[*command, f"-print-file-name={name}"] for name in RUNTIMES]
    found = [subprocess.run(each, capture_output=True, text=True, check=False).stdout.strip() for each in asked]
    return [each for each in found if Path(each).is_absolute()]


def test_portable_tests_pass_by_sanitized_kernels(command: list[str], tmp_path: Path) -> None:
    preloaded = runtimes(command)
    if len(preloaded) < len(RUNTIMES):
        pytest.skip(f"{' '.join(command)} has no {' and '.join(RUNTIMES)} that could be loaded before Python")
    library = tmp_path / "sanitized.so"
    build_library(library, command, extra=SANITIZED)
    chosen = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *CHOSEN]
    environment = os.environ | OPTIONS | {FILE_VARIABLE: str(library), "LD_PRELOAD": " ".join(preloaded)}
    done = subprocess.run(
        chosen, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
