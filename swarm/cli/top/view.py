"""How a swarm looks at this moment, in as many columns and rows as a terminal has. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from swarm.cli.status.picture import bar, cells_of, counts, scale, short_number
from swarm.cli.status.served import Served
from swarm.cli.status.status import as_data
from swarm.cli.top.sightings import RATE_SECONDS, Seen, Sightings, told
from swarm.identity import PeerId
from swarm.span import name_layers

MAX_CELLS = 24  # of a coverage bar
MUCH = 0.9  # of the memory that a worker may use
MIN_HAPPENINGS, MAX_SHOWN = 2, 8  # lines at the bottom
FIGURES = ("layers", "state", "sessions", "queue", "memory", "cache", "tokens/s", "ping", "faults", "device")
HEADS = {"sessions": "sess", "memory": "mem", "tokens/s": "tok/s"}
LEFT_OUT = ("device", "ping", "cache", "queue", "tokens/s", "memory", "faults")  # first what can best be done without
BAD_STATES = ("no answer", "vanished", "banned")


def frame(
    sightings: Sightings, now: float, console: Console, banned: frozenset[PeerId], where: str, skip: int = 0
) -> tuple[list[list[Segment]], int]:
    """Lines that fill the terminal: a headline, models and workers from the line `skip` on, what happened last.

    And how many lines were skipped indeed.
    """
    width, height = console.size
    options = console.options.update(width=width, height=None)
    head = console.render_lines(_headline(sightings, where), options, pad=False)[:1]
    body: list[list[Segment]] = []
    for part in _models(sightings, console, banned):
        body += console.render_lines(part, options, pad=False)
    latest = min(MAX_SHOWN, max(MIN_HAPPENINGS, height - len(head) - len(body) - 1), len(sightings.happenings))
    tail = [
        line
        for happening in told(sightings.happenings, latest)
        for line in console.render_lines(_happening(happening.text, now - happening.at, happening.bad), options)[:1]
    ]
    room = max(1, height - len(head) - len(tail) - 1)
    skip = max(0, min(skip, len(body) - room))
    shown = body[skip : skip + room]
    more = len(body) - skip - len(shown)
    foot = f"q leaves{f'   {more} more lines: j and k scroll' if more or skip else ''}"
    blank: list[list[Segment]] = [[] for _ in range(room - len(shown))]
    last = console.render_lines(Text(foot, style="dim"), options, pad=False)[:1]
    return [*head, *shown, *blank, *tail, *last], skip


def printed(sightings: Sightings, now: float, console: Console, banned: frozenset[PeerId], where: str) -> None:
    """All of it, once."""
    console.print(_headline(sightings, where))
    for part in _models(sightings, console, banned):
        console.print(part)
    for happening in told(sightings.happenings, MAX_SHOWN):
        console.print(_happening(happening.text, now - happening.at, happening.bad))


def data(sightings: Sightings, now: float, swarm_time: float, banned: frozenset[PeerId]) -> dict[str, Any]:
    """What `--json` prints: that of `swarm status`, and what changed."""
    seen = sightings.workers
    health = {peer_id: each.health for peer_id, each in seen.items()}
    plain = as_data(sightings.models(), health, swarm_time, banned)
    for model in plain["models"]:
        for worker in model["workers"]:
            each = seen[PeerId.parse(worker["peer"])]
            worker |= {
                "state": each.state,
                "faults": each.faults,
                "new_sessions": each.new_sessions,
                "cache_rows_per_second": round(each.cache_rate, 2),
            }
    sessions, more = sightings.sessions
    return plain | {
        "watched_seconds": round(now - sightings.began, 1),
        "sessions": sessions,
        "new_sessions": more,
        "rate_seconds": RATE_SECONDS,
        "faults": sightings.faults,
        "gone": [
            {"peer": str(each.record.peer_id), "layers": str(each.record.span), "state": each.gone}
            for each in sightings.gone()
        ],
        "happenings": [
            {"seconds_ago": round(now - each.at, 1), "text": each.text, "bad": each.bad}
            for each in sightings.happenings
        ],
    }


def _headline(sightings: Sightings, where: str) -> Text:
    present = [seen for seen in sightings.workers.values() if not seen.gone]
    sessions, more = sightings.sessions
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append("swarm", style="bold")
    text.append(f" at {where}   {len(present)} worker{'s' if len(present) != 1 else ''}   sessions {sessions}")
    if more:
        text.append(f" ({more:+d} in {RATE_SECONDS:.0f} s)")
    text.append(f"   faults {sightings.faults}", style="bold red" if sightings.faults else "")
    return text


def _models(sightings: Sightings, console: Console, banned: frozenset[PeerId]) -> list[RenderableType]:
    parts: list[RenderableType] = []
    models = sightings.models()
    gone = sightings.gone()
    for served in models:
        rows = [sightings.workers[record.peer_id] for record in served.records]
        rows += [
            seen for seen in gone if seen.record.model == served.model and seen.record.precision == served.precision
        ]
        parts += [Text(""), _title(served), _fitting(served, rows, console, banned)]
    served_digests = {(served.model.digest, served.precision) for served in models}
    lost = [seen for seen in gone if (seen.record.model.digest, seen.record.precision) not in served_digests]
    parts += [
        Text(f"{seen.record.model.name}: {seen.record.peer_id.short} with layers {seen.record.span} {seen.gone}", "red")
        for seen in lost
    ]
    return parts or [Text("the swarm answers, and no worker serves a model yet")]


def _title(served: Served) -> Text:
    model = served.model
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(model.name, style="bold")
    text.append(f" {model.digest.hex()[:12]}, {model.layer_count} layers, {served.precision}: ")
    if served.missing:
        text.append(f"nobody serves {name_layers(served.missing)}", style="bold red")
    else:
        text.append(f"every layer is served, the thinnest by {min(served.replicas)}", style="green")
    return text


def _fitting(served: Served, rows: Sequence[Seen], console: Console, banned: frozenset[PeerId]) -> Table:
    """With as many columns as there is room for."""
    unbounded = console.options.update(width=1 << 16)
    for fewer in range(len(LEFT_OUT) + 1):
        table = _table(served, rows, [name for name in FIGURES if name not in LEFT_OUT[:fewer]], banned)
        if Measurement.get(console, unbounded, table).maximum <= console.width:
            break
    return table


def _table(served: Served, rows: Sequence[Seen], figures: Sequence[str], banned: frozenset[PeerId]) -> Table:
    count = served.model.layer_count
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("peer", no_wrap=True)
    table.add_column(
        Text(scale(count, MAX_CELLS), style="dim"), no_wrap=True, min_width=len(cells_of(count, MAX_CELLS))
    )
    for name in figures:
        table.add_column(HEADS.get(name, name), justify="left" if name == "device" else "right", no_wrap=True)
    for seen in rows:
        peer, held, *values = _row(seen, count, seen.record.peer_id in banned)
        table.add_row(peer, held, *(value for name, value in zip(FIGURES, values, strict=True) if name in figures))
    replicas = Text()
    for digit in counts(served.replicas, MAX_CELLS):
        replicas.append(digit, style="bold white on red" if digit == "0" else "green")
    table.add_row("replicas", replicas)
    return table


def _row(seen: Seen, layer_count: int, banned: bool) -> tuple[str | Text, ...]:
    record, health, load = seen.record, seen.health, seen.health.load
    state = "banned" if banned and not seen.gone else seen.state
    style = "red" if state in BAD_STATES else "cyan" if state == "serving" else "yellow"
    more = seen.new_sessions
    speed = seen.speed
    return (
        Text(record.peer_id.short, style="dim" if seen.gone else ""),
        Text(bar(record.span, layer_count, MAX_CELLS), style="dim" if seen.gone else style),
        str(record.span),
        Text(state, style=style if state != "serving" else ""),
        "" if load is None else f"{load.sessions}{f'{more:+d}' if more else ''}",
        "" if load is None else str(load.queue_rows),
        "" if seen.gone else _memory(record.memory_total, record.memory_free),
        "" if load is None else _cache(load.cache_tokens_free, seen.cache_rate),
        "" if speed is None or seen.gone else f"{speed:.0f}",
        "" if health.round_trip is None else f"{health.round_trip * 1e3:.1f}ms",
        Text(str(seen.faults), style="bold red" if seen.faults else "dim"),
        record.device,
    )


def _memory(total: int, free: int) -> Text:
    """What is used of what a worker may use."""
    share = min(1.0, max(0.0, (total - free) / total)) if total else 0.0
    return Text(f"{share:.0%}", style="red" if share > MUCH else "")


def _cache(free: int, rate: float) -> str:
    """Rows that are free, and how fast they become fewer."""
    rounded = round(rate)
    if not rounded:
        return short_number(free)
    return f"{short_number(free)} {'-' if rounded > 0 else '+'}{short_number(abs(rounded))}/s"


def _happening(text: str, ago: float, bad: bool) -> Text:
    when = f"{ago:.0f} s" if ago < 120 else f"{ago / 60:.0f} min"
    return Text(f"{when:>7} ago  {text}", style="red" if bad else "dim", no_wrap=True, overflow="ellipsis")
