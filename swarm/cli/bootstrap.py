"""Whom a command asks first."""

from __future__ import annotations

from collections.abc import Sequence

from swarm.errors import UsageFault


def need_bootstrap(bootstrap: Sequence[tuple[str, int]], here: str = "swarm client --local") -> None:
    """Raises UsageFault when there is nobody to ask. `here`: the command that does without a swarm."""
    if not bootstrap:
        raise UsageFault(
            "no swarm to ask: give --bootstrap HOST:PORT (or set SWARM_BOOTSTRAP), start one with `swarm bootstrap`, "
            f"or compute here with `{here}`"
        )
