"""Whom a command asks first, and how long it waits for them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import click

from swarm.errors import UsageFault

wait_option = click.option(
    "--wait",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="For a bootstrap that is not up yet.  [default: 0; without end where systemd or a container starts it]",
)


def waiting_seconds(given: float | None, environ: Mapping[str, str]) -> float:
    """How long a bootstrap is waited for. Managers of services start them in any order, and a service's end says nothing more."""
    if given is not None:
        return given
    return float("inf") if started_by_manager(os.getpid(), os.getppid(), environ) else 0.0


def started_by_manager(pid: int, parent: int, environ: Mapping[str, str]) -> bool:
    """systemd names the very process that it starts, as children inherit its variables (systemd.exec(5)); in a container a
    service is the first process, or a child of it."""
    return environ.get("SYSTEMD_EXEC_PID") == str(pid) or 1 in (pid, parent)


def need_bootstrap(bootstrap: Sequence[tuple[str, int]], here: str = "swarm client --local") -> None:
    """Raises UsageFault when there is nobody to ask. `here`: the command that does without a swarm."""
    if not bootstrap:
        raise UsageFault(
            "no swarm to ask: give --bootstrap HOST:PORT (or set SWARM_BOOTSTRAP), start one with `swarm bootstrap`, "
            f"or compute here with `{here}`"
        )
