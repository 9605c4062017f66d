"""What a link does to the bytes that pass one way: when they arrive, and what becomes of them. Pure, but for its own dice.

A reliable stream is only ever late: what a blackhole holds back arrives once it is lifted, as TCP would send it again.
Datagrams are lost instead. Knows nothing of sockets.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Any, Literal

MAX_BACKLOG_SECONDS = (
    1.0  # a datagram that would wait longer than this for a narrow link is lost, as in a router's queue
)
OVERTAKEN_SECONDS = 0.05  # a datagram is late by so much at most, when others overtake it


Way = Literal["to", "back"]  # towards a process, or from it
WAYS: tuple[Way, ...] = ("to", "back")


@dataclass(frozen=True, slots=True)
class Weather:
    """One direction of a link."""

    latency: float = 0.0  # seconds, one way
    jitter: float = 0.0  # seconds, either side of the latency
    bandwidth: float | None = None  # bytes per second; None: as fast as it goes
    loss: float = 0.0  # the part of datagrams that vanish
    blackhole: bool = False  # nothing arrives
    slice_bytes: int | None = None  # a stream's bytes arrive in pieces of at most so many
    flips: float = 0.0  # wrong bits per byte
    duplicates: float = 0.0  # the part of datagrams, and of stretches of a stream, that arrive twice
    reorders: float = 0.0  # the part that arrives after what was sent later


FAIR = Weather()


class Lane:
    """A direction: its weather, and how far ahead its bandwidth is used up."""

    def __init__(self, random: Random) -> None:
        self.weather = FAIR
        self._random = random
        self._free_at = 0.0

    def due(self, size: int, now: float) -> float:
        """When bytes handed over at `now` arrive. They take their turn on the link, whichever connection they are of."""
        weather = self.weather
        self._free_at = max(now, self._free_at)
        if weather.bandwidth is not None:
            self._free_at += size / weather.bandwidth
        return self._free_at + max(0.0, weather.latency + self._random.uniform(-weather.jitter, weather.jitter))

    def drops(self, now: float) -> bool:
        """Whether a datagram is lost on the way."""
        weather = self.weather
        late = weather.bandwidth is not None and self._free_at - now > MAX_BACKLOG_SECONDS
        return weather.blackhole or late or self._random.random() < weather.loss

    def copies(self) -> list[float]:
        """Of a datagram: for each that arrives, by how many seconds it is overtaken."""
        weather = self.weather
        count = 2 if weather.duplicates and self._random.random() < weather.duplicates else 1
        late = bool(weather.reorders) and self._random.random() < weather.reorders
        return [self._random.uniform(0.0, OVERTAKEN_SECONDS) if late else 0.0 for _ in range(count)]

    def stretch(self, data: bytes) -> bytes:
        """A stretch of a stream as it arrives: perhaps twice, perhaps with its end first, perhaps with wrong bits."""
        weather = self.weather
        if weather.duplicates and self._random.random() < weather.duplicates:
            data += data
        if weather.reorders and self._random.random() < weather.reorders:
            cut = self._random.randrange(len(data))
            data = data[cut:] + data[:cut]
        return self.damaged(data)

    def damaged(self, data: bytes) -> bytes:
        """The bytes as they arrive."""
        rate = self.weather.flips
        if not rate:
            return data
        changed = bytearray(data)
        position = self._random.expovariate(rate)
        while position < len(changed):
            changed[int(position)] ^= 1 << self._random.randrange(8)
            position += self._random.expovariate(rate)
        return bytes(changed)


class Lanes:
    """Both directions between a process and everybody else."""

    def __init__(self, random: Random) -> None:
        self.to, self.back = Lane(random), Lane(random)  # towards the process, and from it

    def change(self, *ways: Way, **changes: Any) -> None:
        """Weather by the fields of `Weather`, both ways if none is named."""
        for way in ways or WAYS:
            lane = self.to if way == "to" else self.back
            lane.weather = replace(lane.weather, **changes)

    def calm(self, *fields: str) -> None:
        """These fields as they are without faults."""
        self.change(**{field: getattr(FAIR, field) for field in fields})
