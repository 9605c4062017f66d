"""The gateway's own view: models, workers, sessions, as JSON for the console and for whoever watches.

Reads the catalog, the clients and the answers under way. Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from swarm.client.peers import Avoidance
from swarm.gateway.catalog import Catalog, ModelCard
from swarm.gateway.generation.choice import Choice
from swarm.gateway.generation.generator import Generator
from swarm.identity import PeerId
from swarm.records import PeerRecord, PeerState
from swarm.routing.finder import coverage
from swarm.span import LayerSpan
from swarm.version import __version__


@dataclass(frozen=True, slots=True)
class Who:
    """The node that the gateway belongs to."""

    peer: str = ""  # 64 hex digits; empty without a swarm
    mode: str = "local"


@dataclass(slots=True)
class StatusSource:
    """Asks all parts; `now` is swarm time, in which records expire."""

    catalog: Catalog
    generator: Generator
    who: Who = field(default_factory=Who)
    now: Callable[[], float] = time.time
    _began: float = field(default_factory=time.monotonic)

    async def status(self) -> dict[str, Any]:
        """See the documentation of `/api/status`."""
        cards, records = await self.catalog.cards(watched=True), await self.catalog.records(watched=True)
        return {
            "node": {
                "peer": self.who.peer,
                "mode": self.who.mode,
                "version": __version__,
                "uptime_s": round(time.monotonic() - self._began, 1),
            },
            "models": [model_of(card, records) for card in cards],
            "workers": [self._worker(record) for record in sorted(records, key=lambda each: (each.span, each.peer_id))],
            "avoided": self._avoided(),
            "sessions": [session_of(choice) for choice in self.generator.running.values()],
        }

    def _avoided(self) -> list[dict[str, Any]]:
        """Workers that failed lately, and are not among `workers`: of several clients' words the one that holds longest."""
        told: dict[PeerId, Avoidance] = {}
        for client in self.catalog.clients.values():
            for each in client.peers.avoidances() if client.peers is not None else ():
                told[each.peer_id] = max(each, told.get(each.peer_id, each), key=lambda one: one.seconds)
        return [
            {
                "peer": each.peer_id.hex(),
                "name": each.peer_id.short,
                "seconds": round(each.seconds, 1),
                "fault": each.fault,
            }
            for each in told.values()
        ]

    def _worker(self, record: PeerRecord) -> dict[str, Any]:
        peers = [client.peers for client in self.catalog.clients.values() if client.peers is not None]
        measured = next((p.measurements[record.peer_id] for p in peers if record.peer_id in p.measurements), None)
        return {
            "peer": record.peer_id.hex(),
            "name": record.peer_id.short,
            "model": record.model.name,
            "digest": record.model.digest.hex(),
            "start": record.span.start,
            "stop": record.span.stop,
            "state": record.state.name.lower(),
            "doing": record.doing,
            "precision": record.precision,
            "device": record.device,
            "region": record.region,
            "numerics": record.numerics,
            "memory_total": record.memory_total,
            "memory_free": record.memory_free,
            "tokens_per_second": record.tokens_per_second,
            "cache_tokens_free": record.cache_tokens_free,
            "queue_rows": measured.queue_rows if measured else None,
            "step_s": measured.step_seconds if measured else None,
            "round_trip_s": measured.round_trip if measured else None,
            "sessions": sum(record.peer_id in dict(_chain(choice)) for choice in self.generator.running.values()),
            "suspected": any(record.peer_id in each.avoided(strictly=True) for each in peers),
            "banned": any(record.peer_id in client.banned for client in self.catalog.clients.values()),
            "expires_in_s": round(record.expires_at - self.now(), 1),
        }


def model_of(card: ModelCard, records: Iterable[PeerRecord]) -> dict[str, Any]:
    """One model with its coverage, in the precision that covers most: a chain has one."""
    mine: dict[str, list[PeerRecord]] = {}
    for record in records:
        if record.model.digest.hex() == card.digest and record.state is PeerState.SERVING:
            mine.setdefault(record.precision, []).append(record)
    replicas = {precision: list(coverage(group, card.layers)) for precision, group in mine.items()}
    best = max(replicas, key=lambda precision: sum(count > 0 for count in replicas[precision]), default=None)
    return {
        "id": card.id,
        "digest": card.digest,
        "layers": card.layers,
        "context": card.context,
        "precision": best,
        "replicas": replicas[best] if best is not None else [0] * card.layers,
        "missing": [str(span) for span in card.missing],
        "available": card.available,
    }


def session_of(choice: Choice) -> dict[str, Any]:
    """One answer under way."""
    answer, session = choice.answer, choice.answer.session
    timings, count = answer.timings, len(answer.token_ids)
    state = "opening" if session is None else "decoding" if count else "prompt"
    return {
        "id": choice.id,
        "model": choice.request.model,
        "owner": choice.request.owner,
        "state": "recovering" if getattr(session, "recovering", False) else state,
        "prompt_tokens": len(answer.prompt_ids),
        "cached_tokens": answer.cached_tokens,
        "tokens": count,
        "tokens_per_second": timings.tokens_per_second(count),
        "chain": [
            {"peer": peer.hex(), "start": span.start, "stop": span.stop, "direct": direct}
            for (peer, span), direct in zip(_chain(choice), getattr(session, "direct", ()), strict=False)
        ],
        "recoveries": len(getattr(session, "recoveries", ())),
        "since_s": round(asyncio.get_running_loop().time() - choice.began, 2),
    }


def _chain(choice: Choice) -> list[tuple[PeerId, LayerSpan]]:
    """Who computes which layers of an answer, one worker maybe twice; empty where every layer is computed here."""
    chain = getattr(choice.answer.session, "chain", None)
    return [] if chain is None else [(hop.peer_id, hop.span) for hop in chain.hops]
