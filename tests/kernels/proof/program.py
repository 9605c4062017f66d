"""Builds the kernels with a program that computes cases by them (`driver/`), and asks it.

A case is a line, `operation values seed threads sizes...` (`driver/cases.c` says which sizes); values are 0, tame, or 1: rows of
subnormals, infinities, what is no number. The answer is a hash of the bits, or which path differs from the first, and where.
"""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from swarm.kernels.building import SOURCE, compile_units, units_of

HERE = Path(__file__).parent
QUICK = ("-O1", "-DUNROLL=", "-DINLINE=static __attribute__((unused))")  # a second a path, not ten
ASK_TIMEOUT_S = 120
Units = Mapping[str, tuple[str, tuple[str, ...]]]


def golden() -> dict[str, str]:
    """Cases, and what they come to on every machine."""
    lines = (HERE / "golden.txt").read_text(encoding="ascii").splitlines()
    return dict(line.split(" = ") for line in lines if not line.startswith("#"))


def build(
    folder: Path,
    command: Sequence[str],
    flags: Sequence[str] = (),
    machine: str = platform.machine(),
) -> Path:
    """The program, of kernels compiled with these flags. Raises subprocess.CalledProcessError."""
    return link(folder, command, compile_units(folder, command, units_of(machine), flags), flags)


def link(folder: Path, command: Sequence[str], objects: Sequence[str], flags: Sequence[str] = ()) -> Path:
    program = folder / "driver"
    sources = [str(file) for file in sorted((HERE / "driver").glob("*.c"))]
    asked = [*command, "-std=gnu11", "-O1", "-Wall", "-Werror", *flags, f"-I{SOURCE}", *sources, *objects]
    subprocess.run([*asked, "-pthread", "-lm", "-o", str(program)], check=True)
    return program


def answers(program: Sequence[str | Path], cases: Sequence[str]) -> list[str]:
    """Raises AssertionError with the program's last words."""
    asked = "".join(f"{case}\n" for case in cases)
    done = subprocess.run(program, input=asked, capture_output=True, text=True, timeout=ASK_TIMEOUT_S, check=False)
    found = done.stdout.splitlines()
    at = cases[len(found)] if len(found) < len(cases) else "the end"
    assert done.returncode == 0, f"at {at}:\n{done.stderr}"
    return found


def paths(program: Sequence[str | Path]) -> list[str]:
    """Which run here."""
    return subprocess.run([*program, "--paths"], capture_output=True, text=True, check=True).stdout.split()


def unlike(found: Sequence[str], expected: Mapping[str, str]) -> dict[str, str]:
    """Cases that came to something else, and to what."""
    pairs = zip(expected, found, strict=True)
    return {case: answer for case, answer in pairs if answer != expected[case]}
