"""Computers that differ, and the compiler that is not the usual one."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import pytest

from chaos import computers
from chaos.computers import OTHER_VARIABLE, Computer, other_compiler, unlike
from swarm.kernels import library


def test_computers_next_to_each_other_differ() -> None:
    kernels = library()
    assert kernels is not None
    other = Path("other.so")
    made = unlike(12, other)
    assert {one.path for one in made} == {*kernels.paths()}
    assert {one.threads for one in made} == {1, 2, 3}
    assert {one.library for one in made} == {None, other}
    assert all(one != another for one, another in pairwise(made))
    assert all(
        one != another for one, another in zip(made, made[2:], strict=False)
    )  # replicas of a part, with two parts


def test_a_process_is_told_and_this_one_settles() -> None:
    kernels = library()
    assert kernels is not None
    before = Computer(kernels.threads, kernels.path)
    for one in unlike(4):
        one.settle()
        assert (kernels.threads, kernels.path) == (one.threads, one.path)
        assert one.environment == {"SWARM_KERNELS": one.path}
    before.settle()
    built = Computer(1, "plain", Path("/there/clang.so"))
    assert built.environment == {"SWARM_KERNELS": "plain", "SWARM_KERNELS_FILE": "/there/clang.so"}
    assert str(built) == "plain, 1 thread, built by clang"


def test_another_compiler_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(OTHER_VARIABLE, raising=False)
    monkeypatch.setattr(computers.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(computers.shutil, "which", {"cc": "/bin/one", "gcc": "/bin/one", "clang": "/bin/two"}.get)
    assert other_compiler(["cc"]) == ("clang", ["/bin/two"])
    assert other_compiler(["clang"]) == ("gcc", ["/bin/one"])
    monkeypatch.setattr(computers.shutil, "which", {"cc": "/bin/one", "gcc": "/bin/one"}.get)
    assert other_compiler(["cc"]) is None
    monkeypatch.setattr(computers.importlib.util, "find_spec", lambda name: name)
    assert other_compiler(["cc"]) == ("ziglang", [sys.executable, "-m", "ziglang", "cc"])
    monkeypatch.setenv(OTHER_VARIABLE, "/opt/icx -O1")
    assert other_compiler(["cc"]) == ("icx", ["/opt/icx", "-O1"])
