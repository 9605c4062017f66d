"""What is in a wheel of another platform."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from swarm.kernels import wheels
from swarm.kernels.wheels import TARGETS, build_wheel

ROOT = Path(__file__).resolve().parents[2]
TARGET = "windows-amd64"


@pytest.fixture(autouse=True)
def as_before() -> None:
    """The library that is installed is no part of this."""


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a library that is none: compiling it takes a minute, and `make wheels` does."""
    monkeypatch.setattr(wheels, "build_library", lambda target, *_: target.write_bytes(b"compiled"))
    return build_wheel(ROOT, tmp_path, TARGETS[TARGET])


def test_a_wheel_is_of_its_platform_and_holds_its_library_alone(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-win_amd64.whl")
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
        about = next(name for name in names if name.endswith(".dist-info/WHEEL"))
        lines = packed.read(about).decode().splitlines()
        assert packed.read("swarm/kernels/portable.dll") == b"compiled"
    assert "Root-Is-Purelib: false" in lines
    assert "Tag: py3-none-win_amd64" in lines
    assert not [name for name in names if name.endswith((".so", ".dylib", ".pyc"))]
    assert {"swarm/kernels/source/portable.h", "swarm/cli/__init__.py", "chaos/__init__.py"} <= set(names)
    assert not [name for name in names if name.startswith("tests/")]
