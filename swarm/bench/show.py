"""Figures for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from swarm.bench.figures import Line, Ratio, Spread


def show_lines(title: str, lines: Sequence[Line], console: Console) -> None:
    """As a table: the medians, and in brackets the lowest and highest of all rounds."""
    table = Table(title=title)
    table.add_column("measured")
    table.add_column("figure", justify="right")
    table.add_column("beside")
    for line in lines:
        beside = [*map(_ratio, line.ratios), *([line.note] if line.note else [])]
        table.add_row(line.what, f"{_spread(line.value)} {line.unit}", "; ".join(beside))
    console.print(table)


def as_object(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """For JSON."""
    return [
        {
            "what": line.what,
            "unit": line.unit,
            **_numbers(line.value),
            "ratios": [{"of": ratio.of, **_numbers(ratio.spread)} for ratio in line.ratios],
            **({"note": line.note} if line.note else {}),
        }
        for line in lines
    ]


def _numbers(spread: Spread) -> dict[str, float]:
    return {"median": spread.median, "low": spread.low, "high": spread.high}


def _digits(value: float) -> str:
    """Three that count."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _spread(spread: Spread) -> str:
    if spread.low == spread.high:
        return _digits(spread.median)
    return f"{_digits(spread.median)} ({_digits(spread.low)}–{_digits(spread.high)})"


def _ratio(ratio: Ratio) -> str:
    spread = ratio.spread
    if ratio.percent:
        between = "" if spread.low == spread.high else f" ({spread.low * 100:.0f}–{spread.high * 100:.0f})"
        return f"{spread.median:.0%}{between} of {ratio.of}"
    between = "" if spread.low == spread.high else f" ({spread.low:.2f}–{spread.high:.2f})"
    return f"{spread.median:.2f}{between} x {ratio.of}"
