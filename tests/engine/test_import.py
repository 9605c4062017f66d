"""What importing the engine settles, and that it says so where it came too late."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PRINT = "from swarm.engine import PRECISIONS, numerics_class; print(numerics_class(PRECISIONS['fp32']))"


def fp32_class(code: str, **environment: str) -> str:
    settings = {key: value for key, value in os.environ.items() if key not in ("MKL_CBWR", "OMP_WAIT_POLICY")}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, env=settings | environment
    )
    return result.stdout.strip()


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="MKL is on x86 only")
def test_reproducible_mkl_is_asked_for_only_where_it_still_helps() -> None:
    assert "/avx2,strict/" in fp32_class(PRINT)
    assert "/-/" in fp32_class(f"import torch; {PRINT}")
    assert "/compatible/" in fp32_class(PRINT, MKL_CBWR="COMPATIBLE")
