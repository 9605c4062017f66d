"""Programs of the kernels, built once."""

from __future__ import annotations

from pathlib import Path

import pytest
from kernels.proof.program import QUICK, build

from swarm.kernels.building import compiler

SANITIZED = (
    *QUICK,
    "-g1",
    *("-fsanitize=address,undefined", "-fsanitize=float-cast-overflow"),
    *("-fno-sanitize-recover=all", "-fno-omit-frame-pointer"),
)


@pytest.fixture(autouse=True)
def as_before() -> None:
    """The library that is installed is no part of this."""


@pytest.fixture(scope="session")
def command() -> list[str]:
    found = compiler()
    assert found is not None, "there is no C compiler"
    return found


@pytest.fixture(scope="session")
def sanitized(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ends at the first access outside a buffer and the first operation that C leaves undefined."""
    return build(tmp_path_factory.mktemp("sanitized"), command, SANITIZED)
