"""What this machine can give: memory, cores, a device. Measured or limited by the user, never guessed.

Link speeds are not here: they are observed on real transfers, or absent.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path, PurePosixPath
from types import ModuleType

import psutil

from swarm.errors import UsageFault

CGROUPS = Path("sys/fs/cgroup")
MAX_LIMIT_FILE_BYTES = 1 << 16
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_UNITS |= {f"{letter}IB": size for letter, size in _UNITS.items() if letter}
_UNITS |= {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a worker may use."""

    memory_total: int  # bytes on the device: what there is, or what the user or a container allows of it
    memory_free: int  # bytes of those that nobody uses now
    cores: int  # of the host, that this process may run on
    device_name: str  # as a record shows it: "cpu", "cuda: NVIDIA H200"


def measure_capacity(device: str, max_memory: int | None = None, root: Path = Path("/")) -> Capacity:
    """What `device` ("cpu", "cuda:0") has now; at most `max_memory` bytes of it. `root` is where sys and proc lie.

    On the CPU the limits of the cgroups that this process is in count as well (containers, systemd units).
    """
    groups = list(_cgroups(root))
    if device == "cpu":
        memory = psutil.virtual_memory()
        total, free, name = memory.total, memory.available, "cpu"
        for limit, used in filter(None, map(_memory_limit, groups)):
            total, free = min(total, limit), min(free, max(0, limit - used))
    else:
        cuda = _torch().cuda
        free, total = cuda.mem_get_info(device)
        name = f"cuda: {cuda.get_device_name(device)}"
    if max_memory is not None:
        total, free = min(total, max_memory), min(free, max_memory)
    return Capacity(total, free, _cores(groups), name)


def resolve_device(wanted: str) -> str:
    """`"auto"` takes the first CUDA device if there is one, else the CPU. Raises UsageFault naming what there is."""
    if wanted == "cpu":
        return wanted
    match = re.fullmatch(r"auto|cuda(?::(\d{1,3}))?", wanted)
    if match is None:
        raise UsageFault(f"'{wanted}' is no device: write auto, cpu, cuda or cuda:N")
    cuda = _torch().cuda
    count = cuda.device_count() if cuda.is_available() else 0
    if wanted == "auto":
        return "cuda:0" if count else "cpu"
    if not count:
        raise UsageFault(f"device {wanted}: this installation of torch finds no CUDA device; use cpu")
    number = int(match[1] or 0)
    if number >= count:
        raise UsageFault(
            f"device {wanted}: this machine has cuda:0" + (f" to cuda:{count - 1}" if count > 1 else " only")
        )
    return f"cuda:{number}"


def parse_memory(text: str) -> int:
    """Bytes from `"8GB"` (10^9 each), `"8GiB"` or `"8G"` (2^30 each), or a plain number of bytes. Raises UsageFault."""
    match = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*([A-Za-z]{0,3})\s*", text, re.ASCII)
    unit = _UNITS.get(match[2].upper()) if match else None
    size = int(float(match[1]) * unit) if match and unit else 0
    if size < 1:
        raise UsageFault(f"'{text}' is no amount of memory: write a number and a unit, such as 8GB or 512MiB")
    return size


def _torch() -> ModuleType:
    import_module("swarm.engine")  # first: it settles what MKL reads when torch loads
    return import_module("torch")


def _cores(groups: list[tuple[Path, bool]]) -> int:
    # Where a system knows no affinity, psutil has no such method either.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for quota in map(_core_limit, groups) if quota is not None]
    return max(1, min([cores, *map(int, quotas)]))


def _cgroups(root: Path) -> Iterator[tuple[Path, bool]]:
    """Folders of the cgroups that hold this process, innermost first, and whether they are of version 2.

    Inside a container the path that /proc shows may be the host's; the mounted root is the container's own group then.
    """
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        inner = PurePosixPath(path.lstrip("/"))
        if ".." in inner.parts:
            inner = PurePosixPath()
        if not controllers:
            yield from ((root / CGROUPS / above, True) for above in (inner, *inner.parents))
        for controller in {"memory", "cpu"}.intersection(controllers.split(",")):
            yield from ((root / CGROUPS / controller / above, False) for above in (inner, *inner.parents))


def _memory_limit(group: tuple[Path, bool]) -> tuple[int, int] | None:
    """Bytes that a cgroup may use, and those it uses; None without a limit."""
    folder, second = group
    limit = _number(folder / ("memory.max" if second else "memory.limit_in_bytes"))
    used = _number(folder / ("memory.current" if second else "memory.usage_in_bytes"))
    if limit is None or used is None:
        return None
    # Pages of files that were not used lately are given back under pressure, so they are free.
    statistics = (line.split() for line in (_read(folder / "memory.stat") or "").splitlines())
    wanted = "inactive_file" if second else "total_inactive_file"
    cached = sum(int(words[1]) for words in statistics if len(words) == 2 and words[0] == wanted and words[1].isdigit())
    return limit, max(0, used - cached)


def _core_limit(group: tuple[Path, bool]) -> float | None:
    """Cores' worth of time that a cgroup may use; None without a limit."""
    folder, second = group
    if second:
        words = (_read(folder / "cpu.max") or "").split()
        quota, period = words if len(words) == 2 else ("", "")
    else:
        quota, period = (_read(folder / f"cpu.cfs_{name}_us") or "" for name in ("quota", "period"))
    quota, period = quota.strip(), period.strip()
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _number(path: Path) -> int | None:
    text = (_read(path) or "").strip()
    return int(text) if text.isdigit() else None


def _read(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(MAX_LIMIT_FILE_BYTES).decode("ascii", "replace")
    except OSError:  # no such group, controller or permission: no limit that we can know of
        return None
