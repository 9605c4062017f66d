"""What endpoints are given and what they give back: a `Call` of a `Gateway` in, an answer out."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp

from swarm.gateway.catalog import Catalog
from swarm.gateway.generation.generator import Generator
from swarm.gateway.http.auth import Keys
from swarm.gateway.http.body import read_json
from swarm.gateway.http.sse import KEEPALIVE_SECONDS
from swarm.gateway.monitoring.metrics import Metrics
from swarm.gateway.monitoring.status import Who
from swarm.trace import Trace

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
    metrics: Metrics = field(init=False)

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


Handler = Callable[[Call], Awaitable[Answering]]
