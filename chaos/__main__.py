"""`python -m chaos`: options and dispatch; the parts are imported when they are needed."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from swarm.errors import SwarmError

if TYPE_CHECKING:
    from chaos.run import Outcome, Setup
    from chaos.scenarios import Scenario

MAX_SEED = 1 << 32
TABLE_COLUMNS = 4  # scenarios beside each other

model_option = click.option(
    "--model",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A model in the Hugging Face layout.  [default: the one that comes along]",
)
precision_option = click.option(
    "--precision", type=click.Choice(["fp32", "bf16"]), default="bf16", show_default=True, help="Of every worker."
)
json_option = click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Figures go here."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Break a swarm on purpose, and check what it promises meanwhile."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: whatever was started is ended


@main.command("list")
def list_scenarios() -> None:
    """Name the scenarios."""
    from chaos.scenarios import MACHINES, SCENARIOS

    for listed, when in ((SCENARIOS, ""), (MACHINES, ", with --namespaces")):
        for scenario in listed:
            cases = f"({len(scenario.cases)} cases{when})"
            click.echo(f"{scenario.number:3}  {scenario.name:16} {scenario.title}  {cases}")


@main.command()
@click.argument("scenarios", nargs=-1, required=True, metavar="SCENARIO...")
@click.option("--seed", type=click.IntRange(0, MAX_SEED), default=1, show_default=True, help="Of prompts and faults.")
@click.option("--duration", type=click.FloatRange(0, min_open=True), help="Seconds of cases that go by the clock.")
@model_option
@precision_option
@json_option
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="A page of Markdown goes here.")
@click.option("--namespaces", is_flag=True, help="Each process on a machine of its own (Linux, as root).")
def run(
    scenarios: tuple[str, ...],
    seed: int,
    duration: float | None,
    model: Path | None,
    precision: str,
    json_file: Path | None,
    report: Path | None,
    namespaces: bool,
) -> None:
    """Run scenarios by name or number, on real processes; `all` is every one. Fails if anything promised did not hold.

    With --namespaces `all` is every one that is made for them, and those are found first.
    """
    from chaos.scenarios import MACHINES, SCENARIOS, find

    listed = MACHINES if namespaces else SCENARIOS
    wanted = list(listed) if scenarios == ("all",) else [find(name, listed) or find(name) for name in scenarios]
    for name, scenario in zip(scenarios, wanted, strict=False):
        if scenario is None:
            raise click.UsageError(f"there is no scenario '{name}': see `python -m chaos list`")
    setup = replace(_setup(model, precision, seed, duration), namespaces=namespaces)
    everything = _run_all([(scenario, setup) for scenario in wanted if scenario is not None], json_file, report)
    sys.exit(not all(each["passed"] for each in everything))


@main.command()
@click.argument("seed", type=click.IntRange(0, MAX_SEED))
@click.option("-q", "--quiet", is_flag=True, help="Leave out what was traced.")
def replay(seed: int, quiet: bool) -> None:
    """Run a seed of the simulation in virtual time again; it goes the same way every time."""
    from chaos.simulation import run as simulation

    sys.exit(not simulation.replay(seed, verbose=not quiet).ok)


@main.command()
@click.option("--seed", type=click.IntRange(0, MAX_SEED), default=1, show_default=True, help="The first one.")
@click.option("--count", type=click.IntRange(1), default=100, show_default=True, help="How many.")
@click.option("--duration", type=click.FloatRange(0, min_open=True), help="Stop after so many seconds.")
def simulate(seed: int, count: int, duration: float | None) -> None:
    """Run seeds of the simulation in virtual time, up to the first that breaks a promise."""
    from chaos.simulation import run as simulation

    until = time.monotonic() + duration if duration is not None else float("inf")
    outcomes = []
    with click.progressbar(range(seed, seed + count), label="seeds", file=sys.stderr) as seeds:
        for each in seeds:
            outcomes.append(simulation.simulate(each))
            if not outcomes[-1].ok or time.monotonic() > until:
                break
    click.echo(
        f"{len(outcomes)} seeds from {seed}: {sum(outcome.tokens for outcome in outcomes)} tokens, "
        f"{sum(outcome.recoveries for outcome in outcomes)} recoveries, "
        f"{sum(outcome.failed for outcome in outcomes)} requests failed for want of a chain"
    )
    if not outcomes[-1].ok:
        raise click.ClickException(f"{outcomes[-1]}\npython -m chaos replay {outcomes[-1].seed}")


@main.command()
@click.option("--seed", type=click.IntRange(0, MAX_SEED), help="Of the first round.  [default: drawn]")
@click.option("--duration", type=click.FloatRange(0, min_open=True), default=3600.0, show_default=True, help="Seconds.")
@model_option
@precision_option
@json_option
def soak(seed: int | None, duration: float, model: Path | None, precision: str, json_file: Path | None) -> None:
    """Random scenarios and simulated seeds in turn, until time is over or something does not hold; then the seed is told."""
    from chaos.scenarios import SCENARIOS

    first = Random().randrange(MAX_SEED) if seed is None else seed
    dice, until, everything = Random(first), time.monotonic() + duration, []
    click.echo(f"seed {first}")
    while time.monotonic() < until:
        round_seed = dice.randrange(MAX_SEED)
        scenario = dice.choice(SCENARIOS)
        setup = _setup(model, precision, round_seed, min(60.0, duration))
        everything += _run_all([(scenario, setup)], None, None)
        if json_file is not None:
            _write_json(everything, json_file)
        if not everything[-1]["passed"]:
            raise click.ClickException(f"python -m chaos run {scenario.name} --seed {round_seed}")
        simulated = ("simulate", "--seed", str(round_seed), "--duration", str(everything[-1]["seconds"]))
        if subprocess.run([sys.executable, "-m", "chaos", *simulated], check=False).returncode:
            raise click.ClickException("the simulation broke a promise")


def _setup(model: Path | None, precision: str, seed: int, seconds: float | None) -> Setup:
    from chaos.run import Setup
    from swarm.client.client import SHIPPED

    path = model or SHIPPED["demo"]
    layers = json.loads((path / "config.json").read_text())["num_hidden_layers"]
    return Setup(path.resolve(), layers, precision, seed, seconds)


def _run_all(wanted: list[tuple[Scenario, Setup]], json_file: Path | None, report: Path | None) -> list[dict[str, Any]]:
    """Figures of every scenario; files are written after each, so that an interrupted run leaves what it has."""
    from chaos.invariants import breaches
    from chaos.report import figures, markdown, table

    console = Console(highlight=False)
    everything: list[dict[str, Any]] = []
    for scenario, setup in wanted:
        outcome, layers_of = _run_one(scenario, setup, console)
        everything.append(figures(outcome, breaches(outcome, layers_of)))
        verdict = "holds" if everything[-1]["passed"] else "does not hold"
        console.print(f"{scenario.number} {scenario.name}: {verdict} (seed {setup.seed}, {outcome.seconds:.0f} s)")
        for breach in everything[-1]["breaches"]:
            console.print(f"   {breach}", style="red", markup=False)
        if json_file is not None:
            _write_json(everything, json_file)
        if report is not None:
            report.write_text(markdown(everything))
    for start in range(0, len(everything), TABLE_COLUMNS):
        console.print(table(everything[start : start + TABLE_COLUMNS]))
    return everything


def _write_json(everything: list[dict[str, Any]], path: Path) -> None:
    from chaos.report import as_json

    path.write_text(as_json(everything) + "\n")


def _run_one(scenario: Scenario, setup: Setup, console: Console) -> tuple[Outcome, dict[int, str]]:
    from chaos.picture import Picture
    from chaos.run import Run

    with Picture(console) as picture:
        made = Run(scenario, setup, picture.say)
        picture.run = made
        try:
            outcome = asyncio.run(made.run())
        except SwarmError as error:
            raise click.ClickException(f"{scenario.name}, seed {setup.seed}: {error}") from error
    assert made.farm is not None
    return outcome, {worker.span: worker.layers for worker in made.farm.workers}


if __name__ == "__main__":
    main()
