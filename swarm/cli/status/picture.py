"""The layers of a model as a picture: who holds which, how many hold each, and where nobody does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from swarm.cli.status.served import Served
from swarm.cli.status.survey import Health
from swarm.identity import PeerId
from swarm.records import PeerRecord, PeerState
from swarm.span import LayerSpan, name_layers

MAX_CELLS = 48  # width of a picture
SHORT_PEER = 8  # digits of a peer id in a table
FIGURES = ("layers", "state", "sessions", "queue", "cache", "tokens/s", "ping", "region", "address")
LEFT_OUT = (
    "address",
    "region",
    "queue",
    "cache",
    "sessions",
    "tokens/s",
    "ping",
)  # first what a narrow terminal can best do without
HELD, PARTLY, NOT_HELD = "█", "▌", "·"


def cells_of(layer_count: int, most: int = MAX_CELLS) -> list[LayerSpan]:
    """The layers that each cell of a picture stands for: one each, or as few as the width allows."""
    each = -(-layer_count // most)
    return [LayerSpan(start, min(start + each, layer_count)) for start in range(0, layer_count, each)]


def bar(span: LayerSpan, layer_count: int, most: int = MAX_CELLS) -> str:
    """One worker's layers."""
    marks = []
    for cell in cells_of(layer_count, most):
        shared = span.intersection(cell)
        marks.append(NOT_HELD if shared is None else HELD if shared == cell else PARTLY)
    return "".join(marks)


def counts(replicas: Sequence[int], most: int = MAX_CELLS) -> str:
    """How many workers hold each layer: a digit a cell, the least of the cell's layers, 9 for more."""
    return "".join(str(min(9, min(replicas[layer] for layer in cell))) for cell in cells_of(len(replicas), most))


def scale(layer_count: int, most: int = MAX_CELLS) -> str:
    """Numbers above the cells, at every tenth of them."""
    cells = cells_of(layer_count, most)
    marks = [" "] * len(cells)
    for index, cell in enumerate(cells):
        if index % 10 == 0:
            text = str(cell.start)
            marks[index : index + len(text)] = text
    return "".join(marks)[: len(cells) + 3]


def show(
    models: Sequence[Served],
    health: Mapping[PeerId, Health],
    console: Console,
    banned: frozenset[PeerId] = frozenset(),
) -> None:
    """All models, one under the other."""
    if not models:
        console.print("The swarm answers, and no worker serves a model yet. Start one with `swarm worker`.")
    for served in models:
        model = served.model
        console.print(
            f"[bold]{model.name}[/bold] {model.digest.hex()[:12]}, {model.layer_count} layers, {served.precision}, "
            f"{len(served.records)} worker{'s' if len(served.records) != 1 else ''}"
        )
        console.print(_fitting(served, health, console, banned))
        if served.missing:
            console.print(f"[bold red]nobody serves {name_layers(served.missing)}[/bold red]")
        else:
            console.print(f"every layer is served, the thinnest by {min(served.replicas)}")
        console.print()


def _fitting(served: Served, health: Mapping[PeerId, Health], console: Console, banned: frozenset[PeerId]) -> Table:
    """The table with as many columns as the terminal has room for: whole ones, not the beginnings of all."""
    unbounded = console.options.update(width=1 << 16)
    named = any(record.region for record in served.records)
    for fewer in range(len(LEFT_OUT) + 1):
        figures = [name for name in FIGURES if name not in LEFT_OUT[:fewer] and (named or name != "region")]
        table = _table(served, health, figures, banned)
        if Measurement.get(console, unbounded, table).maximum <= console.width:
            break
    return table


def _table(served: Served, health: Mapping[PeerId, Health], figures: Sequence[str], banned: frozenset[PeerId]) -> Table:
    count = served.model.layer_count
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("peer", no_wrap=True, min_width=SHORT_PEER)
    table.add_column(Text(scale(count), style="dim"), no_wrap=True, min_width=len(cells_of(count)))
    for name in figures:
        table.add_column(name, justify="left" if name in ("region", "address") else "right", no_wrap=True)
    for record in served.records:
        peer, held, *values = _row(record, count, health[record.peer_id], record.peer_id in banned)
        table.add_row(peer, held, *(value for name, value in zip(FIGURES, values, strict=True) if name in figures))
    replicas = Text()
    for digit in counts(served.replicas):
        replicas.append(digit, style="bold red" if digit == "0" else "green")
    table.add_section()
    table.add_row("replicas", replicas)
    return table


def short_number(count: int) -> str:
    """`950`, `5.5k`, `12M`: at most five characters."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.1f}{unit}" if count < 10 * size else f"{count // size}{unit}"
    return str(count)


def _row(record: PeerRecord, layer_count: int, health: Health, banned: bool) -> tuple[str | Text, ...]:
    serving = record.state is PeerState.SERVING
    style = "cyan" if serving and health.error is None and not banned else "yellow"
    load, ping, speed = health.load, health.round_trip, record.tokens_per_second
    state = "banned" if banned else "no answer" if health.error is not None else record.doing
    return (
        record.peer_id.short,
        Text(bar(record.span, layer_count), style=style),
        str(record.span),
        Text(state, style="" if state == "serving" else "yellow"),
        "" if load is None else str(load.sessions),
        "" if load is None else str(load.queue_rows),
        "" if load is None else short_number(load.cache_tokens_free),
        "" if speed is None else f"{speed:.0f}",
        "" if ping is None else f"{ping * 1e3:.1f} ms",
        record.region or "",
        str(record.addresses[0]),
    )
