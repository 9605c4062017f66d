"""What happens, told to whoever listens: the console's live picture and the metrics. Each listener has a bounded queue.

Knows nothing of HTTP. A listener that does not keep up misses what is oldest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

MAX_WAITING = 256  # events that one listener has not read
MAX_LISTENERS = 64


@dataclass(frozen=True, slots=True)
class BusEvent:
    """Something that happened; `name` is the event's type on the wire."""

    name: str
    data: dict[str, Any]


class Full(Exception):
    """As many listen as may."""


class EventBus:
    """`publish` to all; `with bus.listen() as events: async for event in events`."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[BusEvent]] = set()
        self._taps: list[Callable[[BusEvent], None]] = []
        self.closed = False  # nothing more will happen

    def close(self) -> None:
        """Everybody who listens is told the last thing there is to tell, `end`."""
        self.closed = True
        self.publish("end")

    @property
    def listened(self) -> bool:
        return bool(self._queues or self._taps)

    def tap(self, tap: Callable[[BusEvent], None]) -> None:
        """Called at once with everything, for as long as the bus lives."""
        self._taps.append(tap)

    def publish(self, name: str, **data: Any) -> None:
        event = BusEvent(name, data)
        for tap in self._taps:
            tap(event)
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(event)

    @contextmanager
    def listen(self) -> Iterator[AsyncIterator[BusEvent]]:
        """Raises Full."""
        if len(self._queues) >= MAX_LISTENERS:
            raise Full
        queue: asyncio.Queue[BusEvent] = asyncio.Queue(MAX_WAITING)
        self._queues.add(queue)
        try:
            yield _all_of(queue)
        finally:
            self._queues.discard(queue)


async def _all_of(queue: asyncio.Queue[BusEvent]) -> AsyncIterator[BusEvent]:
    while True:
        yield await queue.get()
