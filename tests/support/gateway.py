"""A gateway on a real port, over the demo model computed in this process or over a swarm of the caller's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swarm.client import Client
from swarm.gateway.app import Gateway, create_app
from swarm.gateway.auth import Keys
from swarm.gateway.catalog import Catalog
from swarm.gateway.serve import HttpServer
from swarm.trace import Event, Trace

DEMO = Path(__file__).parents[2] / "swarm" / "demo" / "model"
MODEL = "demo"


@dataclass(slots=True)
class Served:
    """What a test has of a gateway."""

    url: str
    gateway: Gateway
    events: list[Event]


@asynccontextmanager
async def serving(
    make_client: Callable[[Path], Client] = lambda path: Client(path, local=True),
    *,
    keys: tuple[str, ...] = (),
    directory: Any = None,
    paths: tuple[Path, ...] = (DEMO,),
    **options: Any,
) -> AsyncIterator[Served]:
    events: list[Event] = []
    trace = Trace(events.append)
    async with Catalog(paths, directory, make_client, trace=trace) as catalog:
        gateway = Gateway(catalog, Keys(keys), trace=trace, **options)
        async with HttpServer(create_app(gateway), "127.0.0.1", 0, gateway.asking.hub.close) as server:
            yield Served(f"http://127.0.0.1:{server.port}", gateway, events)
