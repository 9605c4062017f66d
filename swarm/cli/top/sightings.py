"""What became of the workers of a swarm since somebody began to watch. Pure: looks go in, rows and happenings come out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from swarm.cli.status.served import Served, served_models
from swarm.cli.status.survey import Health
from swarm.identity import PeerId
from swarm.records import PeerRecord, PeerState
from swarm.span import LayerSpan, name_layers

MAX_HAPPENINGS = 200  # remembered
MAX_GONE = 64  # workers that are no more and are still shown, the latest
RATE_SECONDS = 10.0  # over which a change is counted
MAX_SAMPLES = 64  # of one worker within that time
UNASKED = Health(None, None, "not asked yet")


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that changed."""

    at: float  # of the clock that `judge` is given
    text: str
    bad: bool


@dataclass(slots=True)
class Seen:
    """One worker."""

    record: PeerRecord
    since: float
    health: Health = UNASKED
    answered: bool = False  # when it was last asked
    listed: bool = True  # in the directory
    gone: str = ""  # "vanished" or "left"
    faults: int = 0
    samples: deque[tuple[float, int, int]] = field(default_factory=lambda: deque(maxlen=MAX_SAMPLES))

    @property
    def silent(self) -> bool:
        return self.health.error is not None

    @property
    def state(self) -> str:
        if self.gone:
            return self.gone
        if self.health is UNASKED:
            return "asking"
        if self.silent:
            return "left" if self.record.state is PeerState.DRAINING else "no answer"
        return self.record.doing if self.listed else "unlisted"

    @property
    def new_sessions(self) -> int:
        """More sessions than some seconds ago."""
        return self.samples[-1][1] - self.samples[0][1] if self.samples else 0

    @property
    def cache_rate(self) -> float:
        """Rows a second that its cache takes up; below 0 it is being freed."""
        if len(self.samples) < 2 or self.samples[-1][0] <= self.samples[0][0]:
            return 0.0
        return (self.samples[0][2] - self.samples[-1][2]) / (self.samples[-1][0] - self.samples[0][0])

    @property
    def speed(self) -> float | None:
        """Decode steps a second through its layers: as measured lately, else as announced."""
        load = self.health.load
        if load is not None and load.sessions and load.step_seconds > 0:
            return 1 / load.step_seconds
        return self.record.tokens_per_second


class Sightings:
    """`find` what the directory has, then `judge` by what the workers answered."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.workers: dict[PeerId, Seen] = {}
        self.happenings: deque[Happening] = deque(maxlen=MAX_HAPPENINGS)
        self.faults = 0
        self._holes: dict[tuple[bytes, str], tuple[LayerSpan, ...]] = {}
        self._judged = False

    def find(self, now: float, records: Iterable[PeerRecord]) -> bool:
        """What the directory has; whether somebody came, moved or left."""
        last = self.happenings[-1] if self.happenings else None
        listed = {record.peer_id: record for record in records}
        for peer_id, record in listed.items():
            if record.state is PeerState.GONE:
                self._take_leave(now, peer_id, record)
            else:
                self._list(now, peer_id, record)
        for peer_id, seen in self.workers.items():
            seen.listed = peer_id in listed
        return bool(self.happenings) and self.happenings[-1] is not last

    def judge(self, now: float, health: Mapping[PeerId, Health]) -> None:
        """What the workers answered."""
        for peer_id, seen in self.workers.items():
            if not seen.gone:
                self._judge(now, seen, health.get(peer_id, UNASKED))
        self._forget()
        self._cover(now)
        self._judged = True

    def watched(self) -> list[PeerRecord]:
        """Who is worth asking: also who is listed no more, as long as it answers."""
        return [seen.record for seen in self.workers.values() if not seen.gone]

    def models(self) -> list[Served]:
        """Of those that are there; what was just found and not asked yet counts as it announced itself."""
        present = [seen for seen in self.workers.values() if not seen.gone]
        health = {
            seen.record.peer_id: Health(None, None) if seen.health is UNASKED else seen.health for seen in present
        }
        return served_models([seen.record for seen in present], health)

    def gone(self) -> list[Seen]:
        """The latest last."""
        return [seen for seen in self.workers.values() if seen.gone]

    @property
    def sessions(self) -> tuple[int, int]:
        """On all workers, and how many more than some seconds ago: a session on three workers counts three times."""
        present = [seen for seen in self.workers.values() if not seen.gone]
        return sum(seen.health.load.sessions for seen in present if seen.health.load), sum(
            seen.new_sessions for seen in present
        )

    def _list(self, now: float, peer_id: PeerId, record: PeerRecord) -> None:
        seen = self.workers.get(peer_id)
        if seen is not None and not (seen.gone and record.sequence > seen.record.sequence):
            moved = seen.record.span != record.span
            if moved and not seen.gone:
                self._happened(now, f"{peer_id.short} moved from layers {seen.record.span} to {record.span}", False)
            if record.sequence >= seen.record.sequence:
                seen.record = record
            return
        if self._judged:
            what = "joined" if seen is None else "is back"
            self._happened(now, f"{peer_id.short} {what} with layers {record.span} of {record.model.name}", False)
        self.workers.pop(peer_id, None)  # the order is that of their coming
        self.workers[peer_id] = Seen(record, now, faults=0 if seen is None else seen.faults)

    def _take_leave(self, now: float, peer_id: PeerId, record: PeerRecord) -> None:
        """It says that it left. Who was never seen here is not missed."""
        seen = self.workers.get(peer_id)
        if seen is not None and not seen.gone and record.sequence > seen.record.sequence:
            seen.record, seen.gone, seen.answered = record, "left", False
            seen.samples.clear()
            self._happened(now, f"{peer_id.short} left with layers {record.span}", False)

    def _judge(self, now: float, seen: Seen, health: Health) -> None:
        short, draining = seen.record.peer_id.short, seen.record.state is PeerState.DRAINING
        seen.health = health
        if health is UNASKED:
            return
        if not seen.silent:
            if not seen.answered and seen.faults:
                self._happened(now, f"{short} answers again", False)
            seen.answered = True
            self._sample(now, seen)
        elif seen.answered and not draining:
            seen.faults += 1
            self.faults += 1
            self._happened(now, f"{short} (layers {seen.record.span}) does not answer: {health.error}", True)
        if seen.silent:
            seen.answered = False
            seen.samples.clear()
            if not seen.gone and (not seen.listed or draining):
                seen.gone = "left" if draining else "vanished"
                self._happened(now, f"{short} {seen.gone} with layers {seen.record.span}", not draining)

    def _sample(self, now: float, seen: Seen) -> None:
        load = seen.health.load
        if load is not None:
            seen.samples.append((now, load.sessions, load.cache_tokens_free))
        while len(seen.samples) > 1 and seen.samples[0][0] < now - RATE_SECONDS:
            seen.samples.popleft()

    def _forget(self) -> None:
        for seen in self.gone()[:-MAX_GONE]:
            del self.workers[seen.record.peer_id]

    def _cover(self, now: float) -> None:
        """Tell of holes that opened and closed."""
        holes = {(served.model.digest, served.precision): served.missing for served in self.models()}
        names = {served.model.digest: served.model.name for served in self.models()}
        for key, missing in holes.items():
            before = self._holes.get(key, ())
            if missing and missing != before:
                self._happened(now, f"nobody serves {name_layers(missing)} of {names[key[0]]} {key[1]}", True)
            elif before and not missing:
                self._happened(now, f"every layer of {names[key[0]]} {key[1]} is served again", False)
        self._holes = holes

    def _happened(self, now: float, text: str, bad: bool) -> None:
        self.happenings.append(Happening(now, text, bad))


def told(happenings: Sequence[Happening], count: int) -> list[Happening]:
    """The latest, the last one first."""
    return list(happenings)[::-1][:count]
