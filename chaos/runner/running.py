"""Scenarios one after another: what is under way and for how long yet, files after each, a crash of one leaves the rest."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from chaos.runner.invariants import Breach, breaches
from chaos.runner.picture import Picture
from chaos.runner.report import as_json, figures, markdown, table
from chaos.runner.run import Run, Setup
from chaos.scenarios import Scenario

TABLE_COLUMNS = 4  # scenarios beside each other
FARM_SECONDS, START_SECONDS, CASE_SECONDS = 15.0, 5.0, 4.0  # what these take without any fault, about
Wanted = Sequence[tuple[Scenario, Setup]]


def run_all(wanted: Wanted, json_file: Path | None, report: Path | None, console: Console) -> list[dict[str, Any]]:
    """Figures of every scenario; files are written after each, so that an interrupted run leaves what it has."""
    everything: list[dict[str, Any]] = []
    began = time.monotonic()
    try:
        for number, (scenario, setup) in enumerate(wanted):
            left = sum(expected_seconds(*each) for each in wanted[number:])
            console.print(
                f"{number + 1} of {len(wanted)}: {scenario.number} {scenario.name}, {setup.precision}; "
                f"{_minutes(time.monotonic() - began)} gone, about {_minutes(left)} left"
            )
            everything.append(run_one(scenario, setup, console))
            _tell(everything[-1], console)
            _write(everything, len(wanted), json_file, report)
    except KeyboardInterrupt:
        console.print(f"interrupted: {len(everything)} of {len(wanted)} scenarios were run", style="red")
        _write(everything, len(wanted), json_file, report)
        raise
    for start in range(0, len(everything), TABLE_COLUMNS):
        console.print(table(everything[start : start + TABLE_COLUMNS]))
    return everything


def run_one(scenario: Scenario, setup: Setup, console: Console) -> dict[str, Any]:
    """Its figures. What goes wrong in the harness is a breach too, named with its traceback."""
    began = time.monotonic()
    with Picture(console) as picture:
        made = Run(scenario, setup, picture.say)
        picture.run = made
        crash: list[Breach] = []
        try:
            asyncio.run(made.run())
        except Exception:  # whatever it was, the other scenarios shall be run
            crash = [Breach("run", made.case or "all", traceback.format_exc()[-2000:])]
    made.outcome.seconds = time.monotonic() - began
    layers_of = {worker.span: worker.layers for worker in made.farm.workers} if made.farm is not None else {}
    return figures(made.outcome, [*breaches(made.outcome, layers_of), *crash])


def expected_seconds(scenario: Scenario, setup: Setup) -> float:
    """About how long it takes; for the time left."""
    seconds = START_SECONDS * len(scenario.starts) + (FARM_SECONDS if scenario.cases else 0.0)
    for case in scenario.cases:
        load = CASE_SECONDS if case.seconds is None else setup.seconds or case.seconds
        lasting = [strike.lasts or 0.0 for strike in case.strikes if strike.at.when != "every"]
        seconds += load + max(lasting, default=0.0) + sum(case.vanishing) / 20
    return seconds


def _tell(each: dict[str, Any], console: Console) -> None:
    verdict = "holds" if each["passed"] else "does not hold"
    console.print(
        f"{each['number']} {each['scenario']}, {each['precision']}: {verdict} "
        f"(seed {each['seed']}, {each['seconds']:.0f} s)"
    )
    for breach in each["breaches"]:
        console.print(f"   {breach}", style="red", markup=False)


def _write(everything: list[dict[str, Any]], wanted: int, json_file: Path | None, report: Path | None) -> None:
    if json_file is not None:
        json_file.write_text(as_json(everything) + "\n")
    if report is not None:
        report.write_text(markdown(everything, wanted))


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
