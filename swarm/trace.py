"""One hook for everything that happens: work is `started`, `complete` or `failed`. Logs, metrics and tests listen to it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

Phase = Literal["started", "complete", "failed"]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `name` is dotted, floor first: `session.failover`, `worker.step`, `directory.lookup`."""

    name: str
    phase: Phase
    details: dict[str, Any] = field(default_factory=dict)  # small values a log line can show

    def __str__(self) -> str:
        shown = " ".join(f"{key}={value}" for key, value in self.details.items())
        return f"{self.name} {self.phase}{' ' if shown else ''}{shown}"


Listener = Callable[[Event], None]


class Trace:
    """Passes events on to listeners. Without listeners it costs one comparison."""

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = list(listeners)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Add a listener; returns what removes it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def _emit(self, name: str, phase: Phase, details: dict[str, Any]) -> None:
        if self._listeners:
            event = Event(name, phase, details)
            for listener in tuple(self._listeners):
                listener(event)

    def started(self, name: str, /, **details: Any) -> None:
        self._emit(name, "started", details)

    def complete(self, name: str, /, **details: Any) -> None:
        self._emit(name, "complete", details)

    def failed(self, name: str, /, **details: Any) -> None:
        self._emit(name, "failed", details)

    @contextmanager
    def span(self, name: str, /, **details: Any) -> Iterator[None]:
        """`started`, then `complete` or `failed` with the error."""
        self.started(name, **details)
        try:
            yield
        except BaseException as error:  # a cancelled span has ended too
            self.failed(name, error=repr(error), **details)
            raise
        self.complete(name, **details)


def log_to(logger: logging.Logger) -> Listener:
    """A listener that writes events to a logger: failures as warnings, the rest for debugging."""

    def listener(event: Event) -> None:
        logger.log(logging.WARNING if event.phase == "failed" else logging.DEBUG, "%s", event)

    return listener
