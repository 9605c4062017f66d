"""Our own fma, for processors that have none: bit by bit what hardware gives, or the C library, of numbers of every kind."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.kernels.building import FLAGS, SOURCE

pytestmark = pytest.mark.kernels

DRIVER = Path(__file__).parent / "fma" / "fma.c"
TRIPLES = 1_000_000
CHECKED = ("-Wall", "-Werror", "-fsanitize=undefined", "-fno-sanitize-recover=all", f"-I{SOURCE}")


@pytest.fixture(scope="module")
def fma(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("fma") / "fma"
    subprocess.run([*command, *FLAGS, *CHECKED, str(DRIVER), "-lm", "-o", str(program)], check=True)
    return program


@settings(max_examples=10, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**64 - 1))
def test_fma_by_doubles_is_rounded_once(fma: Path, seed: int) -> None:
    done = subprocess.run([fma, str(seed), str(TRIPLES)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, f"{TRIPLES}\n"), done.stdout + done.stderr


def test_a_sum_that_is_not_rounded_to_odd_is_noticed(command: list[str], tmp_path: Path) -> None:
    text = (SOURCE / "fused.h").read_text(encoding="utf-8")
    odd = "bits += (error > 0) == (sum > 0) ? 1 : -1;"
    assert text.count(odd) == 1
    (tmp_path / "fused.h").write_text(text.replace(odd, "bits += 0;"), encoding="utf-8")
    program = tmp_path / "fma"
    subprocess.run([*command, *FLAGS, f"-I{tmp_path}", str(DRIVER), "-lm", "-o", str(program)], check=True)
    done = subprocess.run([program, "1", str(TRIPLES)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stdout
