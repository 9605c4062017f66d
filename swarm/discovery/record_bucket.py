"""The records under one key, counted by group, so that whoever has to go is found without looking at all of them. Pure.

A full key hears of every peer of a large swarm several times a minute, and hardly any of them has a place there.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from swarm.identity import PeerId
from swarm.records import SignedRecord
from swarm.span import LayerSpan


@dataclass(frozen=True, slots=True)
class Held:
    """A record in the store, with what decides its place and its fate."""

    signed: SignedRecord
    place: bytes  # node id of its peer: the order of pages, the same at every replica
    network: bytes  # that brought it
    rank: bytes  # hash under this node's secret; the highest goes first


def _order(held: Held) -> tuple[bytes, PeerId]:
    return held.rank, held.signed.record.peer_id


class Tally:
    """How many records there are, of each model and, of each model, with each span."""

    def __init__(self) -> None:
        self.size = 0
        self.models: Counter[bytes] = Counter()  # by digest
        self.spans: dict[bytes, Counter[LayerSpan]] = {}  # by digest

    def add(self, model: bytes, span: LayerSpan, count: int) -> None:
        """Or take away, if it is negative. What has become 0 is not listed."""
        self.size += count
        self.models[model] += count
        spans = self.spans.setdefault(model, Counter())
        spans[span] += count
        if not spans[span]:
            del spans[span]
        if not spans:
            del self.models[model], self.spans[model]

    def add_all(self, other: Tally, sign: int) -> None:
        for model, spans in other.spans.items():
            for span, count in spans.items():
                self.add(model, span, sign * count)


class Level:
    """Networks that brought equally many records. A single one is not counted twice: it may be large."""

    def __init__(self) -> None:
        self._networks: dict[int, Tally] = {}  # by identity
        self._together = Tally()

    def __bool__(self) -> bool:
        return bool(self._networks)

    @property
    def tally(self) -> Tally:
        return self._together if len(self._networks) > 1 else next(iter(self._networks.values()))

    def enter(self, network: Tally) -> None:
        if len(self._networks) == 1:
            self._together.add_all(self.tally, 1)
        self._networks[id(network)] = network
        if len(self._networks) > 1:
            self._together.add_all(network, 1)

    def leave(self, network: Tally) -> None:
        del self._networks[id(network)]
        if len(self._networks) > 1:
            self._together.add_all(network, -1)
        elif self._networks:
            self._together = Tally()


class RecordBucket:
    """One record of each peer. How many are too many, its owner says."""

    def __init__(self) -> None:
        self._records: dict[PeerId, Held] = {}
        self._ranked: list[Held] = []  # the lowest rank first
        self._networks: dict[bytes, Tally] = {}
        self._levels: dict[int, Level] = {}  # by how many records each of their networks brought

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Held]:
        return iter(self._records.values())

    def __getitem__(self, peer: PeerId) -> Held:
        return self._records[peer]

    def get(self, peer: PeerId) -> Held | None:
        return self._records.get(peer)

    def add(self, held: Held) -> None:
        """Of a peer that has none here."""
        self._records[held.signed.record.peer_id] = held
        insort(self._ranked, held, key=_order)
        self._count(held, 1)

    def pop(self, peer: PeerId) -> Held:
        held = self._records.pop(peer)
        del self._ranked[bisect_left(self._ranked, _order(held), key=_order)]
        self._count(held, -1)
        return held

    def _count(self, held: Held, count: int) -> None:
        """Its network changes its level."""
        network = self._networks.setdefault(held.network, Tally())
        if network.size:
            level = self._levels[network.size]
            level.leave(network)
            if not level:
                del self._levels[network.size]
        network.add(held.signed.record.model.digest, held.signed.record.span, count)
        if network.size:
            self._levels.setdefault(network.size, Level()).enter(network)
        else:
            del self._networks[held.network]

    def victim(self) -> Held:
        """Of the members of the largest groups, by network, then by model, then by span, the one with the highest rank."""
        largest = max(self._levels)
        tally = self._levels[largest].tally
        most = max(tally.models.values())
        models = {model for model, size in tally.models.items() if size == most}
        spans = (
            sum((tally.spans[model] for model in models), Counter()) if len(models) > 1 else tally.spans[min(models)]
        )
        most = max(spans.values())

        def of_the_largest(held: Held) -> bool:
            record = held.signed.record
            of_model = self._networks[held.network].size == largest and record.model.digest in models
            return of_model and spans[record.span] == most

        return next(held for held in reversed(self._ranked) if of_the_largest(held))
