"""Portable numerics between processes that have nothing in common: instruction sets, threads, and a death in mid-answer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.models import make_model
from support.processes import SwarmProcess, close_all

from swarm.cli import main
from swarm.kernels import library

PROMPT = "bits are bits"
ASKED = ("client", "--max-tokens", "400", "--temperature", "0", "--raw")
COMPUTED = ("--numerics", "portable", "--precision", "bf16")
KINDS = ("plain", "avx2", "avx512")


def test_unlike_replicas_say_the_same_through_a_death(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    kernels = library()
    assert kernels is not None
    kinds = [name for name in KINDS if name in kernels.paths()]
    model = make_model(tmp_path / "tiny", dtype="bf16", tokenizer=True, num_hidden_layers=4, eos_token_id=None)
    alone = CliRunner().invoke(main, [*ASKED, "--model", str(model), "--local", *COMPUTED, PROMPT])
    assert alone.exit_code == 0, alone.stderr
    whole = alone.stdout.encode()
    processes = [SwarmProcess.server("bootstrap", tmp_path)]
    try:
        place = processes[0].ready().address
        for number, layers in enumerate(("0-1", "2-3", "2-3")):
            shown = (
                "--model",
                str(model),
                "--layers",
                layers,
                *COMPUTED,
                "--threads",
                str(1 + number % 2),
            )
            monkeypatch.setenv("SWARM_KERNELS", kinds[number % len(kinds)])
            processes.append(SwarmProcess.server("worker", tmp_path, *shown, "--bootstrap", place))
        _, first, last, _ = (process.ready() for process in processes)
        chain = ("--chain", f"{first.peer},{last.peer}", "--bootstrap", place)
        processes.append(
            SwarmProcess(*ASKED, "--model", str(model), *chain, PROMPT, watched=False, env=dict(os.environ))
        )
        client = processes[-1]
        begun = client.read_until(whole[40:48])
        last.process.kill()
        assert begun + client.rest() == whole
        assert "recovered in" in client.errors()
        assert "exact" not in client.errors()
    finally:
        close_all(processes)
