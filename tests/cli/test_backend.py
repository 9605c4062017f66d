"""`--backend transformers` as its users meet it: an architecture that the engine does not know, in real processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.library import make_library_model
from support.processes import SwarmProcess, close_all

from swarm.cli import main

ASK = ("--model", "odd", "--json", "--max-tokens", "12", "--raw", "one machine is not enough")
BACKEND = ("--backend", "transformers")


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "models"
    make_library_model(folder / "odd", "gpt_bigcode", tokenizer=True)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("SWARM_MODELS", str(folder))
    return folder


def client(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["client", *ASK, *arguments])


def test_a_chain_of_processes_answers_as_one_process_does(models: Path, tmp_path: Path) -> None:
    refused = client("--local")
    assert (refused.exit_code, refused.stdout) == (3, "")
    assert "known model types: " in refused.stderr
    assert "--backend transformers" in refused.stderr
    serve = ("--model", "odd", "--models-dir", str(models), *BACKEND, "--threads", "1")
    processes = [SwarmProcess.server("bootstrap", tmp_path)]
    try:
        place = processes[0].ready().address
        for layers in ("0", "1-2"):
            processes.append(SwarmProcess.server("worker", tmp_path, *serve, "--layers", layers, "--bootstrap", place))
        for process in processes:
            process.ready()
        result = client(*BACKEND, "--bootstrap", place)
    finally:
        close_all(processes)
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert [hop["layers"] for hop in report["chain"]] == ["0", "1-2"]
    assert report["exact"]
    alone = client(*BACKEND, "--local")
    assert alone.exit_code == 0, alone.stderr
    assert json.loads(alone.stdout)["token_ids"] == report["token_ids"]
