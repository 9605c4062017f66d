"""Both compilers, and another processor: zig's builds of the kernels have the bits of the system compiler's."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from kernels.proof.program import QUICK, answers, build, golden, link, paths, unlike

from swarm.kernels.building import library_file

pytestmark = pytest.mark.kernels

ZIG = (sys.executable, "-m", "ziglang", "cc")
EMULATOR = "qemu-aarch64"


def test_the_installed_library_has_golden_bits(command: list[str], tmp_path: Path) -> None:
    program = link(tmp_path, command, [str(library_file())])
    assert not unlike(answers([program], list(golden())), golden())


def test_zig_has_golden_bits(command: list[str], tmp_path: Path) -> None:
    pytest.importorskip("ziglang")
    program = build(tmp_path, ZIG, ("-O2",))
    installed = tmp_path / "installed"
    installed.mkdir()
    assert paths([program]) == paths([link(installed, command, [str(library_file())])])
    assert not unlike(answers([program], list(golden())), golden())


@pytest.mark.skipif(not shutil.which(EMULATOR), reason=f"no {EMULATOR} (a package qemu-user has it)")
def test_arm_has_golden_bits(tmp_path: Path) -> None:
    """By zig, linked with all it needs, and emulated."""
    pytest.importorskip("ziglang")
    program = build(tmp_path, (*ZIG, "--target=aarch64-linux-musl"), QUICK, "aarch64")
    assert paths([EMULATOR, program]) == ["neon", "plain"]
    assert not unlike(answers([EMULATOR, program], list(golden())), golden())
