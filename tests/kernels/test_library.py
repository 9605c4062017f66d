"""Which file the kernels are loaded from."""

from __future__ import annotations

import _ctypes
import shutil
import sys
from pathlib import Path

import pytest

from swarm.errors import UsageFault
from swarm.kernels import library
from swarm.kernels.library import FILE, FILE_VARIABLE, PATH_VARIABLE

fresh = library.__wrapped__  # as if the process had just begun


def test_another_file_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = shutil.copy(FILE, tmp_path)
    monkeypatch.setenv(FILE_VARIABLE, str(other))
    monkeypatch.setenv(PATH_VARIABLE, "plain")
    found, usual = fresh(), library()
    assert found is not None
    assert usual is not None
    assert found.path == "plain"
    assert found.paths() == usual.paths()


@pytest.mark.parametrize("what", ["absent", "text", "another"])
def test_what_is_no_library_of_kernels_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    file = tmp_path / "kernels.so"
    if what == "text":
        file.write_text("no library")
    elif what == "another":
        file = Path(_ctypes.__file__)
    monkeypatch.setenv(FILE_VARIABLE, str(file))
    with pytest.raises(UsageFault, match=f"{FILE_VARIABLE}={file}"):
        fresh()


def test_installed_kernels_of_another_version_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FILE_VARIABLE, raising=False)
    monkeypatch.setattr(sys.modules[library.__module__], "FILE", Path(_ctypes.__file__))
    with pytest.raises(UsageFault, match=r"_ctypes.*another version; install swarm again"):
        fresh()


def test_kernels_whose_records_are_others_are_refused_before_they_read_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FILE_VARIABLE, raising=False)
    module = sys.modules[library.__module__]
    monkeypatch.setattr(module, "RECORDS", (module.CSeen, *module.RECORDS[1:]))  # type: ignore[attr-defined]
    with pytest.raises(UsageFault, match=r"another version; install swarm again.*a CSeen has"):
        fresh()


def test_where_nothing_was_built_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FILE_VARIABLE, raising=False)
    monkeypatch.setattr(sys.modules[library.__module__], "FILE", tmp_path / "portable.so")
    assert fresh() is None


def test_a_path_that_is_not_here_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PATH_VARIABLE, "abacus")
    with pytest.raises(UsageFault, match="no path 'abacus' on this machine"):
        fresh()
