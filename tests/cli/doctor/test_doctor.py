"""Real processes: every worker of a swarm is in the chain, or is told why not; whether others reach this machine is tried."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support.processes import SwarmProcess, close_all

from chaos.network.proxy import Proxy
from swarm.cli import main
from swarm.discovery import directory


class Farm:
    def __init__(self, folder: Path) -> None:
        self.processes = [SwarmProcess.server("bootstrap", folder)]
        self.address = self.processes[0].ready().address
        self.folder = folder
        self.worker, self.other, self.killed, self.left = map(self._start, ("0-23", "0-5", "0-11", "12-23"))

    def _start(self, layers: str) -> SwarmProcess:
        precision = "fp32" if layers == "0-5" else "bf16"
        options = ("--model", "demo", "--layers", layers, "--precision", precision, "--threads", "1")
        self.processes.append(SwarmProcess.server("worker", self.folder, *options, "--bootstrap", self.address))
        return self.processes[-1]

    def ready(self) -> Farm:
        for process in self.processes:
            process.ready()
        self.killed.end(signal.SIGKILL)
        self.left.end()
        return self

    def ask(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, [*arguments, "--bootstrap", self.address])


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    made = Farm(tmp_path_factory.mktemp("farm"))
    try:
        yield made.ready()
    finally:
        close_all(made.processes)


@pytest.fixture
def free_port() -> int:
    """Free for TCP and UDP, as is the next one: for all that is known."""
    return Proxy().free_ports()


@pytest.fixture(autouse=True)
def data_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))


def test_everything_is_told_at_once(farm: Farm, free_port: int) -> None:
    result = farm.ask("doctor", "--json", "--host", "127.0.0.1", "--port", str(free_port))
    report: dict[str, Any] = json.loads(result.stdout)
    by_what: dict[str, list[bool | None]] = {}
    for finding in report["machine"]:
        by_what.setdefault(finding["what"], []).append(finding["good"])
    assert by_what.pop("memory") == by_what.pop("disk") == [True]
    assert by_what == {"key": [True], "port": [True] * 3, "swarm": [True], "clock": [True], "outside": [True, True]}
    (model,) = report["models"]
    assert model["chain"] == [{"peer": farm.worker.peer, "layers": "0-23"}]
    why = {worker["peer"]: worker["why"] for worker in model["workers"]}
    assert why.pop(farm.worker.peer) is None
    assert why.pop(farm.other.peer).startswith(
        "of another precision: it computes in fp32, the chain in bf16; no way on"
    )
    assert why.pop(farm.killed.peer).startswith(f"unreachable: by TCP {farm.killed.address} cannot be connected to: ")
    assert why == {}  # who left is no riddle
    assert result.exit_code == 0


def test_what_is_bad_ends_with_1(farm: Farm) -> None:
    result = farm.ask(
        "doctor", "--model", "nobody's", "--host", "127.0.0.1", "--port", farm.worker.address.split(":")[1]
    )
    assert result.exit_code == 1
    assert "BAD port     TCP" in result.stdout
    assert "BAD model    no worker announces a model by the name of nobody's" in result.stdout


def test_one_worker_is_asked_about(farm: Farm) -> None:
    def why(worker: SwarmProcess) -> str:
        return farm.ask("status", "--why", worker.peer[:8]).stdout

    assert why(farm.worker) == f"demo: {farm.worker.peer[:8]}  layers 0-23: used for layers 0-23\n"
    assert "layers 12-23: gone: it said that it left" in why(farm.left)


def test_a_swarm_that_does_not_answer_keeps_nobody_from_looking_at_this_machine(
    free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "JOIN_ATTEMPTS", 1)
    given = ["--host", "127.0.0.1", "--port", str(free_port), "--bootstrap", f"127.0.0.1:{free_port}"]
    result = CliRunner().invoke(main, ["doctor", *given])
    assert result.exit_code == 1
    assert "BAD swarm    no bootstrap answered" in result.stdout
    assert "ok  memory" in result.stdout
