"""The build backend: setuptools', which before it packs or links the package has the kernels compiled.

It uses the system's C compiler (`CC`, or cc); where there is none it asks pip for ziglang, which is one. Named in pyproject.toml;
imports nothing of swarm, which is not installed yet when it runs.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from setuptools import build_meta

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "source"
PLAIN_SOURCES = ("pool.c", "packing.c", "blocks.c", "tables.c", "dispatch.c")
FLAGS = (
    *("-std=gnu11", "-O3", "-fvisibility=default", "-Wall"),
    *("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"),
)
AVX2 = ("-mavx2", "-mfma", "-mf16c")
AVX512 = (*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni")
PATHS: dict[str, dict[int, tuple[str, ...]]] = {  # of a machine: PATH of lanes.h -> the compiler's flags
    "x86_64": {0: (), 1: AVX2, 2: AVX512},
    "aarch64": {0: (), 3: ()},
}
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}  # other names of them
FORBIDDEN = ("-ffast-math", "-Ofast", "-funsafe-math-optimizations")  # they change bits

get_requires_for_build_sdist = build_meta.get_requires_for_build_sdist
build_sdist = build_meta.build_sdist


def library_file() -> Path:
    """Where the compiled kernels lie, beside this file."""
    suffix = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
    return HERE / f"portable{suffix}"


def compiler() -> list[str] | None:
    """The command of a C compiler, None where there is none."""
    named = os.environ.get("CC")
    if named:
        return shlex.split(named)
    for name in ("cc", "gcc", "clang"):
        if shutil.which(name):
            return [name]
    try:
        import ziglang  # noqa: F401
    except ImportError:
        return None
    return [sys.executable, "-m", "ziglang", "cc"]


def units_of(machine: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """What is compiled by itself for a machine: object -> its source, and flags of its own."""
    name = machine.lower()
    paths = PATHS.get(MACHINES.get(name, name), {0: ()})
    units = {f"path{path}.o": ("path.c", (f"-DPATH={path}", *flags)) for path, flags in paths.items()}
    return units | {f"{Path(name).stem}.o": (name, ()) for name in PLAIN_SOURCES}


def compile_units(
    folder: Path,
    command: Sequence[str],
    units: Mapping[str, tuple[str, tuple[str, ...]]],
    flags: Sequence[str] = (),
    source: Path = SOURCE,
) -> list[str]:
    """Objects in `folder`. Raises subprocess.CalledProcessError, with the compiler's words on stderr."""

    windows = sys.platform == "win32" or any("-windows" in part for part in command)
    code = () if windows else ("-fPIC",)  # there every program's code may lie anywhere

    def compiled(name: str) -> str:
        file, own = units[name]
        target = str(folder / name)
        subprocess.run([*command, *FLAGS, *code, *flags, *own, "-c", str(source / file), "-o", target], check=True)
        return target

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(compiled, units))


def build_library(
    target: Path, command: Sequence[str], machine: str = platform.machine(), extra: Sequence[str] = ()
) -> None:
    """Compile and link the kernels. Raises subprocess.CalledProcessError, with the compiler's words on stderr."""
    with tempfile.TemporaryDirectory() as folder:
        objects = compile_units(Path(folder), command, units_of(machine), [*extra, *_own_flags()])
        linked = Path(folder) / target.name
        subprocess.run([*command, *extra, "-shared", "-pthread", *objects, "-lm", "-o", str(linked)], check=True)
        shutil.copyfile(linked, target.with_suffix(".new"))
        target.with_suffix(".new").replace(target)  # a process that has the old one open keeps it


def _own_flags() -> list[str]:
    flags = shlex.split(os.environ.get("CFLAGS", ""))
    bad = [flag for flag in flags if flag in FORBIDDEN]
    if bad:
        raise RuntimeError(f"CFLAGS: {' '.join(bad)} would change what the kernels compute; leave it out")
    return flags


def _compile() -> None:
    command = compiler()
    if command is None:
        sys.stderr.write("swarm: no C compiler was found, so the portable kernels are not built\n")
        return
    build_library(library_file(), command)


def _with_compiler(required: list[str]) -> list[str]:
    return required if compiler() is not None else [*required, "ziglang"]


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    return _with_compiler(build_meta.get_requires_for_build_wheel(config_settings))


def get_requires_for_build_editable(config_settings: Any = None) -> list[str]:
    return _with_compiler(build_meta.get_requires_for_build_editable(config_settings))


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None) -> str:
    """Of this platform, for any Python: the kernels know nothing of it."""
    _compile()
    with tempfile.TemporaryDirectory() as folder:
        extra = Path(folder) / "wheel.cfg"
        extra.write_text(f"[bdist_wheel]\nplat_name = {sysconfig.get_platform()}\n")
        os.environ["DIST_EXTRA_CONFIG"] = str(extra)  # where setuptools looks for more of setup.cfg
        return str(build_meta.build_wheel(wheel_directory, config_settings, metadata_directory))


def build_editable(wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None) -> str:
    _compile()
    return str(build_meta.build_editable(wheel_directory, config_settings, metadata_directory))


prepare_metadata_for_build_wheel = build_meta.prepare_metadata_for_build_wheel
prepare_metadata_for_build_editable = build_meta.prepare_metadata_for_build_editable
