"""What a machine can give: its own numbers, and those that a container or the user allows."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import psutil
import pytest

from swarm.errors import UsageFault
from swarm.worker import capacity
from swarm.worker.capacity import Capacity, measure_capacity, parse_memory, resolve_device

MIB = 1 << 20
CORES = len(os.sched_getaffinity(0))


def place(root: Path, files: dict[str, str]) -> Path:
    """A system's files: what proc says of this process's groups, and the groups."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 1024 MiB, 600 of them available."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=1024 * MIB, available=600 * MIB))


class TestMemory:
    def test_this_machine(self) -> None:
        found = measure_capacity("cpu")
        assert 0 < found.memory_free <= found.memory_total <= psutil.virtual_memory().total
        assert 1 <= found.cores <= CORES
        assert found.device_name == "cpu"

    @pytest.mark.usefixtures("memory")
    def test_without_limits(self, tmp_path: Path) -> None:
        assert measure_capacity("cpu", root=tmp_path) == Capacity(1024 * MIB, 600 * MIB, CORES, "cpu")

    @pytest.mark.usefixtures("memory")
    @pytest.mark.parametrize(("allowed", "total", "free"), [(700, 700, 600), (100, 100, 100), (5000, 1024, 600)])
    def test_the_user_may_allow_less(self, tmp_path: Path, allowed: int, total: int, free: int) -> None:
        found = measure_capacity("cpu", allowed * MIB, tmp_path)
        assert (found.memory_total, found.memory_free) == (total * MIB, free * MIB)

    @pytest.mark.usefixtures("memory")
    def test_a_container_of_version_2(self, tmp_path: Path) -> None:
        place(
            tmp_path,
            {
                "proc/self/cgroup": "0::/",
                "sys/fs/cgroup/memory.max": str(512 * MIB),
                "sys/fs/cgroup/memory.current": str(300 * MIB),
                "sys/fs/cgroup/memory.stat": f"anon 1\ninactive_file {100 * MIB}\nactive_file 7",
            },
        )
        found = measure_capacity("cpu", root=tmp_path)
        assert (found.memory_total, found.memory_free) == (512 * MIB, 312 * MIB)

    @pytest.mark.usefixtures("memory")
    def test_groups_above_limit_too(self, tmp_path: Path) -> None:
        group = "sys/fs/cgroup/user.slice"
        place(
            tmp_path,
            {
                "proc/self/cgroup": "0::/user.slice/app.service",
                f"{group}/app.service/memory.max": "max",
                f"{group}/app.service/memory.current": "5",
                f"{group}/memory.max": str(256 * MIB),
                f"{group}/memory.current": str(400 * MIB),
            },
        )
        found = measure_capacity("cpu", root=tmp_path)
        assert (found.memory_total, found.memory_free) == (256 * MIB, 0)

    @pytest.mark.usefixtures("memory")
    def test_a_container_of_version_1(self, tmp_path: Path) -> None:
        group = "sys/fs/cgroup/memory/docker/abc"
        place(
            tmp_path,
            {
                "proc/self/cgroup": "9:name=systemd:/\n4:memory:/docker/abc\n3:cpuset:/x\n0::/",
                f"{group}/memory.limit_in_bytes": str(400 * MIB),
                f"{group}/memory.usage_in_bytes": str(150 * MIB),
                f"{group}/memory.stat": f"cache 9\ntotal_inactive_file {50 * MIB}",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "1",
            },
        )
        found = measure_capacity("cpu", root=tmp_path)
        assert (found.memory_total, found.memory_free) == (400 * MIB, 300 * MIB)

    @pytest.mark.usefixtures("memory")
    @pytest.mark.parametrize("listing", ["", "nonsense", "0::/../../etc", "4:memory", ":::::", "0::" + "/a" * 3000])
    def test_what_is_not_understood_limits_nothing(self, tmp_path: Path, listing: str) -> None:
        place(tmp_path, {"proc/self/cgroup": listing, "sys/fs/cgroup/memory.max": "many", "etc/memory.max": "1"})
        place(tmp_path, {"sys/fs/cgroup/cpu.max": "max", "etc/memory.current": "1"})
        assert measure_capacity("cpu", root=tmp_path) == Capacity(1024 * MIB, 600 * MIB, CORES, "cpu")


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "100000 100000"}, 1),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "max 100000"}, 64),
        ({"cpu.max": "250000 100000"}, 2),
        ({"cpu.max": "5 0"}, 64),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64),
    ],
    ids=str,
)
def test_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cores: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)))
    place(tmp_path, {"proc/self/cgroup": "3:cpuacct,cpu:/\n0::/"})
    place(tmp_path, {f"sys/fs/cgroup/{name}": text for name, text in files.items()})
    assert measure_capacity("cpu", root=tmp_path).cores == cores


def cuda_with(count: int) -> ModuleType:
    """What this module uses of torch, on a machine with as many devices."""
    cuda = SimpleNamespace(
        is_available=lambda: count > 0,
        device_count=lambda: count,
        mem_get_info=lambda device: (70 * MIB, 80 * MIB),
        get_device_name=lambda device: f"Imagined 9000 {device}",
    )
    return SimpleNamespace(cuda=cuda)  # type: ignore[return-value]


class TestDevices:
    @pytest.mark.parametrize(
        ("wanted", "count", "device"),
        [
            ("cpu", 0, "cpu"),
            ("cpu", 2, "cpu"),
            ("auto", 0, "cpu"),
            ("auto", 2, "cuda:0"),
            ("cuda", 1, "cuda:0"),
            ("cuda:0", 1, "cuda:0"),
            ("cuda:1", 2, "cuda:1"),
        ],
    )
    def test_names(self, monkeypatch: pytest.MonkeyPatch, wanted: str, count: int, device: str) -> None:
        monkeypatch.setattr(capacity, "_torch", lambda: cuda_with(count))
        assert resolve_device(wanted) == device

    @pytest.mark.parametrize(
        ("wanted", "count", "words"),
        [
            ("cuda", 0, "finds no CUDA device; use cpu"),
            ("cuda:1", 1, "this machine has cuda:0 only"),
            ("cuda:7", 2, "this machine has cuda:0 to cuda:1"),
            ("gpu", 1, "'gpu' is no device: write auto, cpu, cuda or cuda:N"),
            ("cuda:", 1, "no device"),
            ("cuda:-1", 1, "no device"),
            ("cpu:0", 1, "no device"),
            ("", 1, "no device"),
        ],
    )
    def test_what_is_not_there_is_named(
        self, monkeypatch: pytest.MonkeyPatch, wanted: str, count: int, words: str
    ) -> None:
        monkeypatch.setattr(capacity, "_torch", lambda: cuda_with(count))
        with pytest.raises(UsageFault, match=words):
            resolve_device(wanted)

    def test_the_memory_of_a_device(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(capacity, "_torch", lambda: cuda_with(1))
        found = measure_capacity("cuda:0", 75 * MIB, tmp_path)
        assert found == Capacity(75 * MIB, 70 * MIB, CORES, "cuda: Imagined 9000 cuda:0")

    def test_torch_comes_through_the_engine(self) -> None:
        assert capacity._torch() is sys.modules["torch"]
        assert "swarm.engine" in sys.modules


class TestAmounts:
    @pytest.mark.parametrize(
        ("text", "size"),
        [
            ("8GB", 8 * 10**9),
            ("8GiB", 8 << 30),
            ("8G", 8 << 30),
            ("8g", 8 << 30),
            ("512MiB", 512 << 20),
            (" 1.5 gib ", 3 << 29),
            ("2TB", 2 * 10**12),
            ("64k", 64 << 10),
            ("4096", 4096),
            ("4096B", 4096),
        ],
    )
    def test_units(self, text: str, size: int) -> None:
        assert parse_memory(text) == size

    @pytest.mark.parametrize(
        "text", ["", "GB", "-1GB", "0", "0.1B", "8 Gigs", "1e9", "8GBit", "٣GB", "1" * 99, "nan", "8iB"]
    )
    def test_anything_else_is_named(self, text: str) -> None:
        with pytest.raises(UsageFault, match="is no amount of memory"):
            parse_memory(text)
