"""What becomes of the kernels when they are compiled for a GPU: single IEEE operations, as they are written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import support.interpreted  # noqa: F401

SCRIPT = Path(__file__).with_name("compiling.py")
KERNELS = {"_norm", "_activate", "_softmax", "_rotate", "_floats", "_quantise", "_integers"}
KERNELS |= {"_store", "_soften", "_weigh", "_join", "_convolve", "_keep", "_to_length", "_gates", "_recur"}


def test_every_operation_is_rounded_once(tmp_path: Path) -> None:
    path = os.pathsep.join(sys.path)
    environment = {**os.environ, "PYTHONPATH": path, "TRITON_CACHE_DIR": str(tmp_path)}
    run = subprocess.run([sys.executable, str(SCRIPT)], env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    lines = [line.split() for line in run.stdout.splitlines()]
    assert {line[0] for line in lines} == KERNELS
    assert not [line for line in lines if len(line) > 1]
