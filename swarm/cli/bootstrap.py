"""Whom a command asks first."""

from __future__ import annotations

from collections.abc import Sequence

from swarm.errors import UsageFault


def need_bootstrap(bootstrap: Sequence[tuple[str, int]]) -> None:
    """Raises UsageFault when there is nobody to ask."""
    if not bootstrap:
        raise UsageFault(
            "no swarm to ask: give --bootstrap HOST:PORT (or set SWARM_BOOTSTRAP), start one with `swarm bootstrap`, "
            "or compute here with `swarm client --local`"
        )
