"""Options of how a worker serves: where it stands, for how many, when it moves, how it leaves."""

from __future__ import annotations

from typing import Any

import click

from swarm.cli.options import REGION
from swarm.config import WorkerConfig

MAX_CLIENTS = 1 << 16


def service_options(function: Any) -> Any:
    """--region, --max-clients, --move-every and --successor."""
    region = click.option(
        "--region", type=REGION, help="A tag that others may choose by, such as eu-west.  [default: none]"
    )
    clients = click.option(
        "--max-clients",
        type=click.IntRange(1, MAX_CLIENTS),
        metavar="N",
        help="Compute for so many clients at once at most; more are sent elsewhere.  [default: any number]",
    )
    moving = click.option(
        "--move-every",
        type=click.FloatRange(0),
        metavar="SECONDS",
        default=WorkerConfig().move_every,
        show_default=True,
        help="With --layers auto: how often the worker considers moving to layers that need it more; 0: it stays.",
    )
    leaving = click.option(
        "--successor",
        type=click.FloatRange(0),
        metavar="SECONDS",
        default=WorkerConfig().successor_seconds,
        show_default=True,
        help="When it is stopped and alone holds layers of a whole model: how long it waits for another worker to take them; "
        "0: not.",
    )
    return region(clients(moving(leaving(function))))


def worker_config(region: str | None, max_clients: int | None, move_every: float, successor: float) -> WorkerConfig:
    """What these options set."""
    return WorkerConfig(region=region, max_clients=max_clients, move_every=move_every, successor_seconds=successor)
