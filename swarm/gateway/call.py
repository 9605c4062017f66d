"""What endpoints are given and what they give back: a `Call` of a `Gateway` in, an answer out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp

from swarm.gateway.catalog import Catalog
from swarm.gateway.generation.generator import Generator
from swarm.gateway.http.auth import Keys
from swarm.gateway.http.body import read_json
from swarm.gateway.http.fields import Read, read_fields
from swarm.gateway.http.sse import KEEPALIVE_SECONDS
from swarm.gateway.monitoring.metrics import Metrics
from swarm.gateway.monitoring.status import Who
from swarm.trace import Trace

MAX_SAID = 64  # types of tools that the log names
MAX_KIND = 64  # characters of one

Answering = ASGIApp | dict[str, Any]


@dataclass(slots=True)
class Gateway:
    """What endpoints have."""

    catalog: Catalog
    keys: Keys = field(default_factory=lambda: Keys(()))
    generator: Generator = field(default_factory=Generator)
    trace: Trace = field(default_factory=Trace)
    now: Callable[[], float] = time.time
    who: Who = field(default_factory=Who)
    origins: tuple[str, ...] = ()  # web pages of other hosts that may ask; "*" is any
    keepalive_seconds: float = KEEPALIVE_SECONDS
    said_left_out: set[str] = field(default_factory=set)  # types of tools of which the log knows
    metrics: Metrics = field(init=False)
    ending: asyncio.Event = field(default_factory=asyncio.Event)  # what still runs is to end now, with a word

    def __post_init__(self) -> None:
        self.metrics = Metrics(self.catalog, self.generator)


@dataclass(frozen=True, slots=True)
class Call:
    """One request that has been let in."""

    gateway: Gateway
    request: Request
    body: bytes
    owner: str

    def json(self) -> dict[str, Any]:
        """Raises FieldFault."""
        return read_json(self.body)

    def read(self, model: type[Read]) -> Read:
        """The body as a request. Raises FieldFault."""
        return read_fields(model, self.json())

    def say_left_out(self, kinds: Sequence[str]) -> None:
        """Types of tools that the model is not offered; the log says so once."""
        said = self.gateway.said_left_out
        for kind in (kind[:MAX_KIND] for kind in kinds):
            if kind not in said and len(said) < MAX_SAID:
                said.add(kind)
                self.gateway.trace.failed("gateway.tool_left_out", type=kind, reason="only a server could run it")


Handler = Callable[[Call], Awaitable[Answering]]
