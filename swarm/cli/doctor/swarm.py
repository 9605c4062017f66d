"""Looks at a swarm as a new client would, by TCP and by UDP, and says what becomes of each worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swarm.cli.status.survey import Health, examine
from swarm.client.audits.bans import Ban
from swarm.config import ClientConfig
from swarm.identity import Identity, PeerId
from swarm.records import Address, ModelRef, PeerRecord, still_here
from swarm.routing.cost import Measurement
from swarm.routing.finder import coverage
from swarm.routing.unused import Known, Use, Uses, uses
from swarm.span import name_layers
from swarm.trace import Trace
from swarm.transport.probes.service import measure_round_trips


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen of all workers."""

    records: tuple[PeerRecord, ...]  # of those that left too
    health: Mapping[PeerId, Health]
    round_trips: Mapping[Address, float]  # seconds, of those that answered
    now: float  # swarm time


async def look_at(
    identity: Identity, records: Sequence[PeerRecord], now: float, swarm_key: bytes | None, trace: Trace
) -> Sight:
    """Ask every worker."""
    present, config = still_here(records), ClientConfig()
    places = [record.addresses[0] for record in present]
    round_trips, health = await asyncio.gather(
        measure_round_trips(places, config.probe_count, config.probe_seconds),
        examine(identity, present, swarm_key, trace),
    )
    return Sight(tuple(records), health, round_trips, now)


def judged(
    sight: Sight, bans: Iterable[Ban], wanted: str | None = None, avoided: Mapping[PeerId, str] | None = None
) -> list[Uses]:
    """Of every model, or of the one with that name, the chain that a new client would take, and why it has not the others."""
    of_peer = {ban.peer_id: ban for ban in bans}
    known = {
        record.peer_id: Known(
            version=_other_version(sight.health.get(record.peer_id)),
            unreachable=_unreachable(record, sight),
            banned=_banned(of_peer.get(record.peer_id)),
            avoided=(avoided or {}).get(record.peer_id, ""),
            full=_full(sight.health.get(record.peer_id)),
        )
        for record in sight.records
    }
    measured = {record.peer_id: _measurement(record, sight) for record in sight.records}
    names = sorted({record.model.name for record in sight.records if wanted in (None, record.model.name)})
    return [uses(sight.records, _model(sight.records, name), known, measured, sight.now) for name in names]


def _model(records: Iterable[PeerRecord], name: str) -> ModelRef:
    """Of the files that go by a name those of which the swarm has most."""
    models = sorted({record.model for record in records if record.model.name == name}, key=lambda model: model.digest)

    def held(model: ModelRef) -> tuple[int, int]:
        replicas = coverage([each for each in records if each.model == model], model.layer_count)
        return sum(count > 0 for count in replicas), sum(replicas)

    return max(models, key=held)


def _measurement(record: PeerRecord, sight: Sight) -> Measurement:
    health = sight.health.get(record.peer_id)
    load = health.load if health is not None else None
    queue, step = (load.queue_rows, load.step_seconds or None) if load is not None else (0, None)
    return Measurement(sight.round_trips.get(record.addresses[0]), queue, step)


def _other_version(health: Health | None) -> str:
    return health.error or "" if health is not None and health.other_version else ""


def _unreachable(record: PeerRecord, sight: Sight) -> str:
    health = sight.health.get(record.peer_id)
    if health is None or health.error is None:
        return ""
    said = health.error.removeprefix(f"peer {record.peer_id.short} cannot be reached: ")
    address = record.addresses[0]
    answers = "answers" if address in sight.round_trips else "is silent too"
    return f"by TCP {said}" + (f"; by UDP its probe port {address.probe} {answers}" if address.probe else "")


def _banned(ban: Ban | None) -> str:
    if ban is None:
        return ""
    return f"until {time.strftime('%Y-%m-%d %H:%M', time.localtime(ban.until))} for having lied: {ban.reason}"


def _full(health: Health | None) -> str:
    load = health.load if health is not None else None
    if load is None or load.cache_tokens_free:
        return ""
    return f"its caches have no room for a token beside {load.sessions} sessions"


def line(use: Use) -> str:
    """One worker."""
    state = f"used for layers {use.layers}" if use.layers is not None else use.why
    return f"{use.record.peer_id.short}  layers {use.record.span}: {state}"


def told(found: Uses) -> list[str]:
    """One model and its workers."""
    model = found.model
    if found.chain is not None:
        state = f"a chain: {found.chain}"
    elif found.missing:
        state = f"no chain: {name_layers(found.missing)} nobody serves that can be used"
    else:
        state = "no chain"
    head = f"{model.name} {model.digest.hex()[:12]}, {model.layer_count} layers: {state}"
    return [head, *(f"  {line(use)}" for use in found.workers)]


def data(found: Uses) -> dict[str, Any]:
    """For programs."""
    return {
        "name": found.model.name,
        "digest": found.model.digest.hex(),
        "layers": found.model.layer_count,
        "chain": None if found.chain is None else [_hop(hop.peer_id, str(hop.span)) for hop in found.chain.hops],
        "missing": [str(span) for span in found.missing],
        "workers": [
            _hop(use.record.peer_id, str(use.record.span))
            | {"used": None if use.layers is None else str(use.layers), "why": use.why or None}
            for use in found.workers
        ],
    }


def _hop(peer_id: PeerId, layers: str) -> dict[str, str]:
    return {"peer": str(peer_id), "layers": layers}
