"""`swarm status`: peers, spans, load, and the holes in the coverage as a picture of the layers."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import click

from swarm.cli.answer.output import make_trace
from swarm.cli.bootstrap import need_bootstrap
from swarm.cli.keys import bans_file
from swarm.cli.status.picture import show
from swarm.cli.status.served import Served, served_models
from swarm.cli.status.survey import Health, examine, joined
from swarm.client.audits.bans import Bans
from swarm.identity import Identity, PeerId
from swarm.records import PeerRecord, still_here


def as_data(
    models: Sequence[Served], health: Mapping[PeerId, Health], now: float, banned: frozenset[PeerId] = frozenset()
) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "models": [
            {
                "name": served.model.name,
                "digest": served.model.digest.hex(),
                "layers": served.model.layer_count,
                "precision": served.precision,
                "replicas": list(served.replicas),
                "missing": [str(span) for span in served.missing],
                "workers": [
                    _worker(record, health[record.peer_id], now) | {"banned": record.peer_id in banned}
                    for record in served.records
                ],
            }
            for served in models
        ]
    }


def _worker(record: PeerRecord, health: Health, now: float) -> dict[str, Any]:
    return {
        "peer": str(record.peer_id),
        "addresses": [asdict(address) for address in record.addresses],
        "layers": str(record.span),
        "state": record.state.name.lower(),
        "moving": None if record.moving is None else str(record.moving),
        "device": record.device,
        "region": record.region,
        "numerics": record.numerics,
        "memory_total": record.memory_total,
        "memory_free": record.memory_free,
        "tokens_per_second": record.tokens_per_second,
        "cache_tokens_free": record.cache_tokens_free,
        "expires_in": round(record.expires_at - now, 1),
        "round_trip": health.round_trip,
        "load": None if health.load is None else asdict(health.load),
        "error": health.error,
    }


def run_status(
    bootstrap: Sequence[tuple[str, int]], swarm_key: bytes | None = None, *, as_json: bool, verbose: bool
) -> None:
    """Raises SwarmError."""
    bans = Bans(bans_file(os.environ), time.time)
    bans.load()
    models, health, now = asyncio.run(look(bootstrap, swarm_key, verbose))
    banned = bans.banned()
    if as_json:
        click.echo(json.dumps(as_data(models, health, now, banned)))
        return
    from rich.console import Console

    console = Console(highlight=False, width=None if os.isatty(1) else 120)
    show(models, health, console, banned)


async def look(
    bootstrap: Sequence[tuple[str, int]], swarm_key: bytes | None, verbose: bool
) -> tuple[list[Served], dict[PeerId, Health], float]:
    """What there is, and the swarm time."""
    need_bootstrap(bootstrap)
    identity = Identity.generate()  # who looks is nobody's business
    trace = make_trace(verbose)
    async with joined(identity, bootstrap, swarm_key, trace) as directory:
        records = still_here(signed.record for signed in await directory.lookup_all())
        now = directory.time()
    health = await examine(identity, records, swarm_key, trace)
    return served_models(records, health), health, now
