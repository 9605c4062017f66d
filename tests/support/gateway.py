"""A gateway on a real port, over the demo model computed in this process or over a swarm of the caller's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import openai

from swarm.client import Client
from swarm.gateway.app import create_app
from swarm.gateway.call import Gateway
from swarm.gateway.catalog import Catalog
from swarm.gateway.http.auth import Keys
from swarm.gateway.http.server import HttpServer
from swarm.trace import Event, Trace

DEMO = Path(__file__).parents[2] / "swarm" / "demo" / "model"
MODEL = "demo"

T = TypeVar("T")
Asking = TypeVar("Asking")


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
        async with HttpServer(create_app(gateway), "127.0.0.1", 0, gateway.generator.bus.close) as server:
            yield Served(f"http://127.0.0.1:{server.port}", gateway, events)


def run_asking(
    make_asking: Callable[[str], AbstractAsyncContextManager[Asking]],
    work: Callable[[Asking, Served], Coroutine[Any, Any, T]],
    **options: Any,
) -> T:
    """The work, done by somebody who asks a gateway at the address that it is told."""

    async def main() -> T:
        async with serving(**options) as served, make_asking(served.url) as asking:
            return await work(asking, served)

    return asyncio.run(main())


def openai_asking(url: str) -> openai.AsyncOpenAI:
    """OpenAI's own package."""
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="right", max_retries=0)
