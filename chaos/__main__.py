"""`python -m chaos`: options and dispatch; the parts are imported when they are needed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import click
from rich.console import Console

if TYPE_CHECKING:
    from chaos.runner.run import Setup

MAX_SEED = 1 << 32
ROUND_SECONDS = 1200.0  # of a soak's storm, at most

model_option = click.option(
    "--model",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A model in the Hugging Face layout.  [default: the one that comes along]",
)
precision_option = click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16", "int8", "int4"]),
    help="Of every worker; int8 and int4 for `unlike` alone.  [default: as the scenario says, mostly bf16]",
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
    from chaos.scenarios import MACHINES, NAMED, SCENARIOS

    for listed, when in ((SCENARIOS, ""), (NAMED, ", not among `all`"), (MACHINES, ", with --namespaces")):
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
    precision: str | None,
    json_file: Path | None,
    report: Path | None,
    namespaces: bool,
) -> None:
    """Run scenarios by name or number, on real processes; `all` is every one. Fails if anything promised did not hold.

    With --namespaces `all` is every one that is made for them, and those are found first.
    """
    from chaos.network.namespaces import missing
    from chaos.runner.running import run_all
    from chaos.scenarios import MACHINES, SCENARIOS, find

    if namespaces and (why := missing()):
        raise click.UsageError(why)
    listed = MACHINES if namespaces else SCENARIOS
    wanted = list(listed) if scenarios == ("all",) else [find(name, listed) or find(name) for name in scenarios]
    for name, scenario in zip(scenarios, wanted, strict=False):
        if scenario is None:
            raise click.UsageError(f"there is no scenario '{name}': see `python -m chaos list`")
    pairs = [
        (scenario, replace(_setup(model, each, seed, duration), namespaces=namespaces))
        for scenario in wanted
        if scenario is not None
        for each in ((precision,) if precision else scenario.precisions)
    ]
    everything = run_all(pairs, json_file, report, Console(highlight=False))
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
@click.option("--sessions", type=click.IntRange(1), default=1000, show_default=True, help="How many, in all.")
@click.option("--seed", type=click.IntRange(0, MAX_SEED), default=1, show_default=True, help="Of everything drawn.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="A page of Markdown goes here.")
def audits(sessions: int, seed: int, report: Path | None) -> None:
    """Audit sessions among liars of every kind, in virtual time: who is caught, and who is flagged for nothing."""
    from chaos.simulation import audits as simulation
    from chaos.simulation.trials import trials

    with click.progressbar(length=sum(1 for _ in trials()), file=sys.stderr) as bar:
        found = simulation.measure(sessions, seed, lambda _: bar.update(1))
    click.echo(f"{simulation.summary(found)}\n{simulation.table(found)}")
    if report is not None:
        report.write_text(simulation.page(found, seed))
    if any(one.honest_banned for one in found if one.trial.promised):
        raise click.ClickException("an honest peer was banned")


@main.command()
@click.argument("peers", type=click.IntRange(2), nargs=-1)
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="A page of Markdown goes here.")
def scale(peers: tuple[int, ...], report: Path | None) -> None:
    """Measure the directory and the router with so many PEERS (1000), in virtual time.

    A thousand take about two minutes, ten thousand half an hour of one core and 2 GiB.
    """
    from chaos.simulation import scale as simulation

    found = []
    for count in peers or (1000,):
        began = time.monotonic()

        def tell(line: str, count: int = count, began: float = began) -> None:
            click.echo(f"{count} peers, {time.monotonic() - began:.0f} s: {line}", err=True)

        found.append(simulation.measure(count, tell=tell))
        click.echo(f"{found[-1]}\n")
    if report is not None:
        report.write_text(simulation.page(found))


@main.command()
@click.option("--workers", type=click.IntRange(1, 2000), default=200, show_default=True, help="How many.")
@click.option("--seed", type=click.IntRange(0, MAX_SEED), default=1, show_default=True, help="Of their sizes.")
def placement(workers: int, seed: int) -> None:
    """Let workers of very different sizes place and move themselves, in virtual time, from any start (a minute of one core).

    Fails if a start ends more than 20 % below the best possible slowest point, or a move leaves a layer to nobody.
    """
    from chaos import placement as simulation

    found = [simulation.place(start, workers, seed) for start in simulation.STARTS]
    click.echo(simulation.table(found))
    if not all(one.holds for one in found):
        raise click.ClickException("the workers did not place themselves as promised")


@main.command()
@click.option("--swarms", type=click.IntRange(1), default=1000, show_default=True, help="How many.")
@click.option("--seed", type=click.IntRange(0, MAX_SEED), default=1, show_default=True, help="Of what they are like.")
def chains(swarms: int, seed: int) -> None:
    """Find chains in swarms at random, and say how much longer they take than the shortest (half a minute of one core).

    Fails if one in twenty takes more than 1.15 times as long.
    """
    from chaos import chains as simulation

    found = simulation.compare(swarms, seed)
    click.echo(simulation.table(found, swarms, seed))
    if not all(one.most <= simulation.FACTOR for one in found):
        raise click.ClickException("chains take longer than was promised")


@main.command()
@click.option("--seed", type=click.IntRange(0, MAX_SEED), help="Of the first round.  [default: drawn]")
@click.option("--duration", type=click.FloatRange(0, min_open=True), default=3600.0, show_default=True, help="Seconds.")
@model_option
@precision_option
@json_option
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="A page of Markdown goes here.")
def soak(
    seed: int | None,
    duration: float,
    model: Path | None,
    precision: str | None,
    json_file: Path | None,
    report: Path | None,
) -> None:
    """Rounds of every fault at random, of a random scenario and of simulated seeds, until something does not hold.

    It ends when time is over; a round that began is brought to its end. What broke is told with its seed.
    """
    from chaos.runner.report import as_json, markdown
    from chaos.runner.running import run_all
    from chaos.scenarios import SCENARIOS, STORM

    first = Random().randrange(MAX_SEED) if seed is None else seed
    dice, until, everything = Random(first), time.monotonic() + duration, []
    click.echo(f"seed {first}")
    console = Console(highlight=False)
    while (left := until - time.monotonic()) > 0:
        each, scenario = dice.randrange(MAX_SEED), dice.choice(SCENARIOS)
        chosen = precision or dice.choice(["bf16", "fp32"])
        storm = _setup(model, chosen, each, min(ROUND_SECONDS, left))
        short = replace(storm, seconds=min(60.0, left))
        everything += run_all([(STORM, storm), (scenario, short)], None, None, console)
        if json_file is not None:
            json_file.write_text(as_json(everything) + "\n")
        if report is not None:
            report.write_text(markdown(everything))
        for broken in (one for one in everything[-2:] if not one["passed"]):
            again = f"python -m chaos run {broken['scenario']} --seed {each} --precision {chosen}"
            raise click.ClickException(again)
        simulated = ("simulate", "--seed", str(each), "--duration", "60")
        if subprocess.run([sys.executable, "-m", "chaos", *simulated], check=False).returncode:
            raise click.ClickException("the simulation broke a promise")


def _setup(model: Path | None, precision: str, seed: int, seconds: float | None) -> Setup:
    from chaos.runner.run import Setup
    from swarm.client.client import SHIPPED

    path = model or SHIPPED["demo"]
    layers = json.loads((path / "config.json").read_text())["num_hidden_layers"]
    return Setup(path.resolve(), layers, precision, seed, seconds)


if __name__ == "__main__":
    main()
