"""Wheels of every platform, cross-compiled by ziglang: `python -m swarm.kernels.wheels FOLDER [TARGET ...]` in the tree's root.

Each is built in a clean copy of the tree, so that no library of this machine gets into it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from swarm.kernels.building import build_library

ZIG = (sys.executable, "-m", "ziglang", "cc")
PACKED = ("swarm", "bootstrap", "chaos", "setup.py", "setup.cfg", "README.md")
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"


@dataclass(frozen=True, slots=True)
class Target:
    """A platform as zig, the kernels' build and wheels name it."""

    triple: str
    machine: str
    library: str
    tag: str


TARGETS = {
    "linux-x86_64": Target("x86_64-linux-gnu.2.17", "x86_64", "portable.so", "manylinux_2_17_x86_64"),
    "linux-aarch64": Target("aarch64-linux-gnu.2.17", "aarch64", "portable.so", "manylinux_2_17_aarch64"),
    "macos-arm64": Target("aarch64-macos.11.0", "aarch64", "portable.dylib", "macosx_11_0_arm64"),
    "windows-amd64": Target("x86_64-windows-gnu", "x86_64", "portable.dll", "win_amd64"),
}


def build_wheel(root: Path, folder: Path, target: Target) -> Path:
    """A wheel of the tree under `root`, in `folder`. Raises subprocess.CalledProcessError, with what failed on stderr."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        tree = Path(place) / "tree"
        tree.mkdir()
        _copy(root, tree)
        library = tree / "swarm/kernels" / target.library
        build_library(library, (*ZIG, f"--target={target.triple}"), target.machine)
        extra = Path(place) / "wheel.cfg"
        extra.write_text(f"[bdist_wheel]\nplat_name = {target.tag}\n", encoding="ascii")
        done = subprocess.run(
            [sys.executable, "-c", BUILD, str(folder.resolve())],
            cwd=tree,
            env={**os.environ, "DIST_EXTRA_CONFIG": str(extra)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return folder / done.stdout.splitlines()[-1]


def _copy(root: Path, tree: Path) -> None:
    built = shutil.ignore_patterns("__pycache__", "portable.so", "portable.dylib", "portable.dll", "portable.new")
    for name in PACKED:
        if (root / name).is_dir():
            shutil.copytree(root / name, tree / name, ignore=built)
        else:
            shutil.copy(root / name, tree)


def main(folder: str, *names: str) -> None:
    for name in names or TARGETS:
        wheel = build_wheel(Path.cwd(), Path(folder), TARGETS[name])
        sys.stdout.write(f"{wheel} {wheel.stat().st_size // 1024} KiB\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
