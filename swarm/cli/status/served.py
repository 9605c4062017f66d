"""Which models a swarm serves: for each its workers, how many hold a layer, and the layers that nobody does. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from swarm.cli.status.survey import Health
from swarm.identity import PeerId
from swarm.records import ModelRef, PeerRecord, PeerState
from swarm.routing.finder import coverage
from swarm.span import LayerSpan, missing_layers


@dataclass(frozen=True, slots=True)
class Served:
    """One model in one precision: a chain has one precision, so coverage is counted for each."""

    model: ModelRef
    precision: str
    records: tuple[PeerRecord, ...]  # by first layer
    replicas: tuple[int, ...]  # workers that answer and take new sessions, by layer
    missing: tuple[LayerSpan, ...]


def served_models(records: Sequence[PeerRecord], health: Mapping[PeerId, Health]) -> list[Served]:
    """The records by model and precision, each with its coverage: a record outlives its worker, which then covers nothing."""
    groups: dict[tuple[str, bytes, str], list[PeerRecord]] = {}
    for record in records:
        groups.setdefault((record.model.name, record.model.digest, record.precision), []).append(record)
    found = []
    for (_, _, precision), group in sorted(groups.items()):
        model = group[0].model
        answering = [record for record in group if health[record.peer_id].error is None]
        spans = [record.span for record in answering if record.state is PeerState.SERVING]
        found.append(
            Served(
                model,
                precision,
                tuple(sorted(group, key=lambda record: (record.span, record.peer_id))),
                tuple(coverage(answering, model.layer_count)),
                missing_layers(spans, LayerSpan(0, model.layer_count)),
            )
        )
    return found
