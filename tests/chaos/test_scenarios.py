"""Scenarios are sound as data, and one of them is run whole, on real processes, through the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support.models import make_model

from chaos import __main__ as command
from chaos.network import namespaces as machines
from chaos.runner import running
from chaos.runner.run import Setup
from chaos.scenarios import MACHINES, NAMED, PROMPT_ROWS, SCENARIOS, TOKENS, Scenario, find
from chaos.simulation import run as simulation

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("scenario", [*SCENARIOS, *NAMED, *MACHINES], ids=lambda scenario: scenario.name)
def test_a_scenario_can_be_run(scenario: Scenario) -> None:
    listed = MACHINES if scenario in MACHINES else SCENARIOS
    assert find(scenario.name, listed) is find(str(scenario.number), listed) is scenario
    assert len({case.name for case in scenario.cases}) == len(scenario.cases)
    for case in scenario.cases:
        for strike in case.strikes:
            assert strike.at.of < scenario.layout.spans
            assert strike.at.row < PROMPT_ROWS + TOKENS - 1
            if strike.at.when in ("row", "replay"):
                assert case.sessions == 1 or strike.target.who in ("replicas", "bootstraps"), "of which session?"
            if strike.target.who == "redundant":
                assert scenario.layout.replicas > 1
        if case.failing is not None:
            assert case.failing < scenario.layout.spans


def run(*words: str):
    return CliRunner().invoke(command.main, words)


def test_the_list_names_every_scenario() -> None:
    done = run("list")
    assert done.exit_code == 0
    assert [line.split()[1] for line in done.output.splitlines()] == [
        each.name for each in (*SCENARIOS, *NAMED, *MACHINES)
    ]


def test_an_unknown_scenario_is_told() -> None:
    done = run("run", "flood")
    assert done.exit_code == 2
    assert "there is no scenario 'flood'" in done.output


def test_namespaces_have_scenarios_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, bool]] = []

    def run_all(wanted: list[tuple[Scenario, Setup]], *files: object) -> list[dict[str, bool]]:
        ran.extend((scenario.name, setup.namespaces) for scenario, setup in wanted)
        return [{"passed": True}]

    monkeypatch.setattr(running, "run_all", run_all)
    monkeypatch.setattr(machines, "missing", lambda: "there are none here")
    assert "there are none here" in run("run", "all", "--namespaces").output
    assert ran == []
    monkeypatch.setattr(machines, "missing", lambda: None)
    assert run("run", "all", "--namespaces").exit_code == 0
    assert ran == [(each.name, True) for each in MACHINES]
    ran.clear()
    assert run("run", "5", "kill", "--namespaces", "--precision", "bf16").exit_code == 0
    assert run("run", "5", "--precision", "bf16").exit_code == 0
    assert ran == [("bad-link", True), ("kill", True), ("slow-link", False)]


def test_seeds_of_the_simulation_are_run_up_to_the_first_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def outcome(seed: int) -> simulation.Outcome:
        return simulation.Outcome(
            seed, seed != 7, ["a crash"], 10, 1, [], ["I1"] if seed == 7 else [], [], 0, 0, 0, 0, []
        )

    monkeypatch.setattr(simulation, "simulate", outcome)
    assert run("simulate", "--seed", "3", "--count", "4").exit_code == 0
    done = run("simulate", "--seed", "3", "--count", "9")
    assert done.exit_code == 1
    assert "5 seeds from 3: 50 tokens, 5 recoveries" in done.output
    assert "python -m chaos replay 7" in done.output
    assert run("replay", "7", "--quiet").exit_code == 1
    assert run("replay", "8").exit_code == 0


def run_whole(tmp_path: Path, *words: str) -> tuple[dict[str, Any], str]:
    """A scenario with a model of three layers; in a process of its own, for it computes with one thread."""
    model = make_model(tmp_path / "model", num_hidden_layers=3, tokenizer=True)
    figures, page = tmp_path / "figures.json", tmp_path / "page.md"
    given = ["run", *words, "--model", model, "--seed", "3", "--json", figures, "--report", page]
    done = subprocess.run(
        [sys.executable, "-m", "chaos", *given], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (each,) = json.loads(figures.read_text())["scenarios"]
    assert each["passed"]
    return each, page.read_text()


def test_a_lost_reply_on_real_processes(tmp_path: Path) -> None:
    """Scenario 21, in fp32."""
    each, page = run_whole(tmp_path, "lost-reply", "--precision", "fp32")
    assert (each["strikes"], each["failovers"], each["success_rate"], each["tokens"]) == (3, 0, 1.0, 3 * TOKENS)
    assert "| 21 lost-reply | fp32 | holds | 3 |" in page


def test_a_little_of_everything_on_real_processes(tmp_path: Path) -> None:
    each, _ = run_whole(tmp_path, "short", "--precision", "bf16")
    assert each["success_rate"] == 1.0
    assert each["tokens_lost"] == each["tokens_duplicated"] == each["tokens_wrong"] == 0
    assert {case["name"] for case in each["cases"] if case["noticed"]} >= {
        "killed in the middle",
        "paused until it is noticed",
    }
