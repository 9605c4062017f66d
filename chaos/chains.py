"""A thousand swarms at random: how much longer than the shortest chain the one is that clients find.

Machines lie on a plane and take as long to reach each other as they are far apart, besides what each one's own line takes; they
hold as much and compute as fast as they happen to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import dist
from random import Random
from statistics import median

from swarm.identity import PeerId
from swarm.records import Address, ModelRef, PeerRecord, PeerState
from swarm.routing.cost import Measurement, Prices
from swarm.routing.finder import find_chain
from swarm.routing.shortest import shortest
from swarm.span import LayerSpan

NOW = 0.0
LAYERS = (16, 32, 64)
WORKERS = (6, 60)
WIDTH_SECONDS = 0.12  # a round trip from one side of the plane to the other
LINE_SECONDS = (0.001, 0.03)  # that a machine's own line adds
SHARE = (0.1, 0.7)  # of the layers that a worker holds
SPEED = (5.0, 400.0)  # rows a second through the whole model
BUSY = 0.2  # of the workers have rows waiting
MOST_WAITING = 64
FACTOR = 1.15  # that the 95th percentile is to stay below


@dataclass(frozen=True, slots=True)
class Compared:
    """Of one way to hand rows on: how many times the shortest chain's time the client's takes, swarm by swarm."""

    name: str
    ratios: tuple[float, ...]

    @property
    def middle(self) -> float:
        return median(self.ratios)

    @property
    def most(self) -> float:
        """Of 95 in a hundred."""
        return sorted(self.ratios)[len(self.ratios) * 95 // 100]


def compare(swarms: int, seed: int) -> list[Compared]:
    """By way of the client; directly, with the distances of workers unknown, and known."""
    found: dict[str, list[float]] = {"by way of the client": [], "direct, workers' distances known": []}
    dice = Random(seed)
    for _ in range(swarms):
        layers = dice.choice(LAYERS)
        records, measured, between = draw(dice, layers)
        model = records[0].model
        for name, prices in (
            ("by way of the client", Prices(measured)),
            ("direct, workers' distances known", Prices(measured, True, between)),
        ):
            span = LayerSpan(0, layers)
            chain = find_chain(records, model, span, measured, NOW, prices=prices)
            known = {record.peer_id: record for record in records}
            taken = prices.of([(known[hop.peer_id], hop.span) for hop in chain.hops])
            found[name].append(taken / shortest(records, span, prices)[1])
    return [Compared(name, tuple(ratios)) for name, ratios in found.items()]


def draw(
    dice: Random, layers: int
) -> tuple[list[PeerRecord], dict[PeerId, Measurement], Mapping[tuple[PeerId, PeerId], float]]:
    """Workers that together hold all layers, what a client has measured of them, and the round trips between them."""
    model = ModelRef("drawn", bytes(32), layers)
    records: list[PeerRecord] = []
    places: dict[PeerId, tuple[tuple[float, float], float]] = {}
    client = (dice.random(), dice.random()), dice.uniform(*LINE_SECONDS)
    while len(records) < dice.randint(*WORKERS) or not _covered(records, layers):
        held = max(1, round(layers * dice.uniform(*SHARE)))
        start = dice.randint(0, layers - held)
        whole = SPEED[0] * (SPEED[1] / SPEED[0]) ** dice.random()
        record = _record(PeerId(dice.randbytes(32)), model, LayerSpan(start, start + held), whole * layers / held)
        records.append(record)
        places[record.peer_id] = (dice.random(), dice.random()), dice.uniform(*LINE_SECONDS)
    measured = {
        record.peer_id: Measurement(
            _trip(client, places[record.peer_id]), dice.randint(0, MOST_WAITING) if dice.random() < BUSY else 0
        )
        for record in records
    }
    between = {
        (one.peer_id, other.peer_id): _trip(places[one.peer_id], places[other.peer_id])
        for one, other in combinations(records, 2)
    }
    return sorted(records, key=lambda record: record.peer_id), measured, between


def _trip(one: tuple[tuple[float, float], float], other: tuple[tuple[float, float], float]) -> float:
    return dist(one[0], other[0]) * WIDTH_SECONDS + one[1] + other[1]


def _covered(records: Sequence[PeerRecord], layers: int) -> bool:
    return {layer for record in records for layer in range(record.span.start, record.span.stop)} == set(range(layers))


def _record(peer_id: PeerId, model: ModelRef, span: LayerSpan, speed: float) -> PeerRecord:
    return PeerRecord(
        peer_id=peer_id,
        addresses=(Address("192.0.2.1", 7700, 0, 0),),
        model=model,
        span=span,
        state=PeerState.SERVING,
        precision="int4",
        device="cpu",
        memory_total=0,
        memory_free=0,
        numerics="portable-1:int4",
        uplink=None,
        downlink=None,
        tokens_per_second=speed,
        cache_tokens_free=0,
        sequence=1,
        expires_at=NOW + 60,
    )


def table(found: Sequence[Compared], swarms: int, seed: int) -> str:
    """For a terminal."""
    lines = [f"{swarms} swarms, seed {seed}: the client's chain beside the shortest", ""]
    lines += [f"{each.name:36} median {each.middle:.3f}, p95 {each.most:.3f}" for each in found]
    return "\n".join(lines)
