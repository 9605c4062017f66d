"""Faults inside a process are felt at once, and are over when they are taken back."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.models import make_model

from chaos.process import FaultFile, Inside, Turncoat, skew_clock, write_faults
from swarm.engine import Stage
from swarm.engine.row_tensors import zero_rows

ROOT = Path(__file__).parents[2]


def test_the_file_says_what_is_in_force(tmp_path: Path) -> None:
    inside = FaultFile(tmp_path / "worker.json")
    assert inside() == Inside()
    write_faults(inside.path, skew=3600.0)
    write_faults(inside.path, lie="identity", when="replays")
    assert inside() == Inside(3600.0, "identity", "replays")
    write_faults(inside.path, lie=None)
    assert inside() == Inside(3600.0, None, "replays")
    with pytest.raises(AssertionError):
        write_faults(inside.path, mood="bad")


def test_a_clock_jumps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    inside = FaultFile(tmp_path / "clock.json")
    skew_clock(inside)
    assert time.time() == 1000.0
    write_faults(inside.path, skew=-60.0)
    assert time.time() == 940.0


def test_a_stage_turns_into_a_liar_and_back(tmp_path: Path) -> None:
    stage = Stage.load(make_model(tmp_path / "model"))
    inside = FaultFile(tmp_path / "stage.json")
    turncoat = Turncoat(stage, inside)
    cache = turncoat.open(8)
    row = zero_rows(1, stage.hidden, stage.dtype, stage.device) + 0.5

    def decoded():
        cache.rollback(0)
        return turncoat.decode([(cache, row)])[0]

    honest = decoded()
    assert not honest.equal(row)
    write_faults(inside.path, lie="identity")
    assert decoded().equal(row)
    write_faults(inside.path, lie="identity", when="replays")
    assert decoded().equal(honest)
    write_faults(inside.path, lie=None)
    assert decoded().equal(honest)
    cache.close()


def test_it_is_the_command_otherwise() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "chaos.process", "--faults", "/nowhere", "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.startswith("swarm ")
