"""Outcomes as figures: JSON for programs, a table for people, Markdown for the repository. Asks what machine this is."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import psutil
from rich.table import Table

from chaos.runner.attackers import Attack
from chaos.runner.invariants import Breach, percentile, resumed
from chaos.runner.load import Request
from chaos.runner.run import CaseResult, Outcome

MIB = 1 << 20


def figures(outcome: Outcome, found: Sequence[Breach]) -> dict[str, Any]:
    """Everything measured, in seconds, bytes and counts."""
    requests = [request for result in outcome.cases for request in result.requests]
    honest = [result for result in outcome.cases if result.case.failing is None and not result.case.lying]
    counted = [r for result in honest for r in result.requests]
    first = [request.times[0] - request.began for request in requests if request.times]
    gaps = [gap for request in requests for gap in request.gaps]
    calm = outcome.undisturbed.tokens_per_second if outcome.undisturbed else 0.0
    load_seconds = sum(result.seconds for result in outcome.cases)
    tokens = sum(len(request.ids) for request in requests)
    whole = [request for request in requests if request.error is None]
    return {
        "scenario": outcome.scenario.name,
        "number": outcome.scenario.number,
        "title": outcome.scenario.title,
        "passed": not found,
        "breaches": [str(breach) for breach in found],
        "seed": outcome.setup.seed,
        "precision": outcome.setup.precision,
        "seconds": round(outcome.seconds, 1),
        "requests": len(requests),
        "success_rate": sum(request.right for request in counted) / len(counted) if counted else None,
        "tokens": tokens,
        "tokens_lost": sum(max(0, len(request.expected) - len(request.ids)) for request in whole),
        "tokens_duplicated": sum(len(request.indexes) - len(set(request.indexes)) for request in requests),
        "tokens_wrong": sum(request.wrong_tokens for request in requests),
        "strikes": sum(result.clocked.strikes for result in outcome.cases),
        "failovers": sum(result.clocked.failovers for result in outcome.cases),
        "rows_replayed": sum(request.replayed for request in requests),
        "noticed": {kind: _spread(outcome, "noticed", kind) for kind in ("crash", "stall")},
        "recovery": {kind: _spread(outcome, "recovered", kind) for kind in ("crash", "stall")},
        "refilled": _summary([seconds for result in outcome.cases for seconds in result.clocked.refilled]),
        "resumed_after_return": [round(seconds, 2) for seconds in resumed(outcome)],
        "goodput": round(tokens / load_seconds / calm, 3) if load_seconds and calm else None,
        "tokens_per_second_undisturbed": round(calm, 1),
        "first_token": _percentiles(first, (0.5, 0.99)),
        "gap": _percentiles(gaps, (0.5, 0.99)),
        "settled_seconds": max((result.settled or 0.0 for result in outcome.cases), default=0.0),
        "audits": dict(sum((result.clocked.audits for result in outcome.cases), Counter[str]())),
        "liars": sum(len(result.clocked.liars) for result in outcome.cases),
        "banned": sorted({name for result in outcome.cases for name in result.clocked.banned}),
        "suspected": sorted({name for result in outcome.cases for name, _ in result.clocked.suspected}),
        "moves": outcome.moves,
        "waits": outcome.waits,
        "computers": outcome.computers,
        "resources": {
            name: {"rss_before": before[0], "files_before": before[1]}
            | ({"rss_after": after[0], "files_after": after[1]} if after else {"restarted": True})
            for name, (before, after) in outcome.resources.items()
        },
        "starts": [
            {"name": each.start.name, "serves": each.code is None, "exit_code": each.code, "disk": each.how}
            | {"seconds": round(each.seconds, 1), "wrong": each.wrong}
            for each in outcome.starts
        ],
        "cases": [_case(result) for result in outcome.cases],
    }


def _case(result: CaseResult) -> dict[str, Any]:
    return {
        "name": result.case.name,
        "requests": len(result.requests),
        "right": sum(request.right for request in result.requests),
        "errors": sorted({request.error for request in result.requests if request.error}),
        "failovers": result.clocked.failovers,
        "audits": dict(result.clocked.audits),
        "liars": sorted(result.clocked.liars),
        "banned": result.clocked.banned,
        "noticed": {kind: [round(s, 3) for s in values] for kind, values in result.clocked.noticed.items() if values},
        "recovered": {kind: [round(s, 3) for s in v] for kind, v in result.clocked.recovered.items() if v},
        "seconds": round(result.seconds, 2),
        "settled": result.settled,
        "gap": _percentiles([gap for request in result.requests for gap in request.gaps], (0.5, 0.95)),
        "attack": result.attack and _attack(result.attack, result.requests),
        "growth_in_ten_minutes": {name: round(part, 5) for name, part in result.memory.growths().items()},
    }


def _spread(outcome: Outcome, what: str, kind: str) -> dict[str, float | None]:
    values = [seconds for result in outcome.cases for seconds in getattr(result.clocked, what)[kind]]
    return _summary(values)


def _summary(values: list[float]) -> dict[str, float | None]:
    return _percentiles(values, (0.5, 0.95)) | {"max": round(max(values), 3) if values else None}


def _percentiles(values: list[float], parts: Sequence[float]) -> dict[str, float | None]:
    found = {f"p{part * 100:.0f}": percentile(values, part) for part in parts}
    return {name: None if value is None else round(value, 4) for name, value in found.items()}


def machine() -> str:
    """Where the figures were measured."""
    memory = psutil.virtual_memory().total / (1 << 30)
    return (
        f"{psutil.cpu_count()} cores ({platform.machine()}), {memory:.0f} GiB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}"
    )


COLUMNS = (
    "scenario",
    "precision",
    "verdict",
    "seed",
    "requests right",
    "tokens lost, twice, wrong",
    "noticed p95: crash, stall",
    "recovery p50 / p95 / max: crash",
    "stall",
    "likewise, from the return of layers that nobody held",
    "rows replayed",
    "goodput",
    "first token p50",
    "gap p50 / p99",
)


def row(each: dict[str, Any]) -> list[str]:
    """A line of the table."""

    def seconds(value: float | None) -> str:
        return "–" if value is None else f"{value:.2f} s" if value >= 0.1 else f"{value * 1e3:.0f} ms"

    def spread(values: dict[str, float | None]) -> str:
        return "–" if values["max"] is None else " / ".join(seconds(values[name]) for name in ("p50", "p95", "max"))

    share = each["success_rate"]
    return [
        f"{each['number']} {each['scenario']}",
        each["precision"],
        "holds" if each["passed"] else f"{len(each['breaches'])} breaches",
        str(each["seed"]),
        "–" if share is None else f"{share:.2%} of {each['requests']}",
        f"{each['tokens_lost']}, {each['tokens_duplicated']}, {each['tokens_wrong']} of {each['tokens']}",
        f"{seconds(each['noticed']['crash']['p95'])}, {seconds(each['noticed']['stall']['p95'])}",
        spread(each["recovery"]["crash"]),
        spread(each["recovery"]["stall"]),
        spread(each["refilled"]),
        str(each["rows_replayed"]),
        "–" if each["goodput"] is None else f"{each['goodput']:.0%}",
        seconds(each["first_token"]["p50"]),
        f"{seconds(each['gap']['p50'])} / {seconds(each['gap']['p99'])}",
    ]


def table(everything: Sequence[dict[str, Any]]) -> Table:
    """For a terminal: a scenario a column, as there are more figures than scenarios fit."""
    shown = Table(show_header=True, header_style="bold")
    rows = [row(each) for each in everything]
    shown.add_column("")
    for line in rows:
        shown.add_column(line[0], justify="right")
    for index, name in enumerate(COLUMNS[1:], 1):
        shown.add_row(name, *(line[index] for line in rows))
    return shown


def markdown(everything: Sequence[dict[str, Any]], wanted: int | None = None) -> str:
    """chaos/REPORT.md. `wanted` is how many scenarios were to be run."""
    missing = f"Only {len(everything)} of {wanted} scenarios were run." if wanted not in (None, len(everything)) else ""
    lines = [
        "# What chaos found",
        "",
        "Written by `python -m chaos run … --report` (`make chaos` runs all).",
        f"The machine: {machine()}. Times are measured from the fault; a dead process is a *crash*,",
        "one silent a *stall*. Goodput is tokens per second against the same load undisturbed. A run is repeated by",
        f"`python -m chaos run SCENARIO --seed N --precision P`. {missing}".rstrip(),
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
        *("| " + " | ".join(row(each)) + " |" for each in everything),
        "",
    ]
    for each in everything:
        grown = [
            f"{name} {(part['rss_after'] - part['rss_before']) / MIB:+.0f} MiB, "
            f"{part['files_after'] - part['files_before']:+d} files"
            for name, part in each["resources"].items()
            if "rss_after" in part
        ]
        lines += [f"**{each['number']} {each['scenario']}** – {each['title']}. {each['seconds']:.0f} s."]
        lines += [f"- breach: {text}" for text in each["breaches"]]
        lines += [f"- {text}" for text in _details(each)]
        lines += [f"- processes that lived through it: {'; '.join(grown)}"] if grown else []
        lines += [f"- {line}" for line in _attacks(each)] + [""]
    return "\n".join(lines)


def _attack(attack: Attack, requests: Sequence[Request]) -> dict[str, Any]:
    gaps = {name: attack.gaps(requests, acting) for name, acting in (("attacked", True), ("spared", False))}
    found = {name: _percentiles(values, (0.5, 0.95)) for name, values in gaps.items()}
    return {"kind": attack.kind, "met": attack.met, "grown": attack.grown, "gap": found}


def _attacks(each: dict[str, Any]) -> Iterator[str]:
    """What attackers met with, and what the honest noticed of them."""
    for case in each["cases"]:
        if case["attack"]:
            met = ", ".join(f"{count} {what}" for what, count in sorted(case["attack"]["met"].items()))
            grown = max(case["attack"]["grown"].values(), default=0) / MIB
            gaps = [case["attack"]["gap"][name]["p95"] or 0.0 for name in ("attacked", "spared")]
            yield (
                f"attack {case['attack']['kind']}: {met}; a worker grew by {grown:.0f} MiB at most; gap p95 "
                f"{1e3 * gaps[0]:.1f} ms, while the attackers held still {1e3 * gaps[1]:.1f} ms"
            )
        elif any(other["attack"] for other in each["cases"]) and case["gap"]["p95"] is not None:
            yield f"{case['name']}: gap p95 {1e3 * case['gap']['p95']:.1f} ms"


def _details(each: dict[str, Any]) -> list[str]:
    """What only some scenarios have."""
    found = []
    if each["computers"]:
        found.append(f"workers: {'; '.join(f'{name} {what}' for name, what in sorted(each['computers'].items()))}")
    if each["liars"] or each["banned"]:
        audits = ", ".join(f"{count} {verdict}" for verdict, count in sorted(each["audits"].items())) or "none"
        found.append(f"liars: {each['liars']}; banned: {', '.join(each['banned']) or 'nobody'}; audits: {audits}")
    if each["suspected"]:
        found.append(f"suspected for a while: {', '.join(each['suspected'])}")
    for case in each["cases"]:
        if grown := case["growth_in_ten_minutes"]:
            parts = ", ".join(f"{name} {part:+.2%}" for name, part in grown.items())
            found.append(f"{case['name']}: memory in ten minutes: {parts}")
    for start in each["starts"]:
        what = "serves, exactly" if start["serves"] else f"refuses, exit code {start['exit_code']}"
        found.append(f"{start['name']}: {start['wrong'] or what} (disk made by {start['disk']})")
    return found


def as_json(everything: Sequence[dict[str, Any]]) -> str:
    return json.dumps({"machine": machine(), "scenarios": list(everything)}, indent=1)
