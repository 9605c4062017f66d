"""How the HTTP server ends: answers under way have a while, then they are told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

import httpx
import pytest

from swarm.gateway.app import create_app
from swarm.gateway.call import Answering, Call, Gateway
from swarm.gateway.catalog import Catalog
from swarm.gateway.endpoint import route
from swarm.gateway.http import server
from swarm.gateway.http.errors import refusal_of
from swarm.gateway.http.server import HttpServer
from swarm.gateway.http.sse import EventStream, event


def test_answers_under_way_are_told_and_nothing_is_torn(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "GRACE_SECONDS", 0.1)
    begun = [asyncio.Event(), asyncio.Event()]

    async def slow(_: Call) -> Answering:
        begun[0].set()
        await asyncio.Event().wait()
        return {}

    async def endless() -> AsyncGenerator[bytes, None]:
        yield event({"first": True})
        begun[1].set()
        await asyncio.Event().wait()

    async def streamed(_: Call) -> Answering:
        return EventStream(endless(), lambda error: event(refusal_of(error).openai(), "error"))

    async def main() -> None:
        gateway = Gateway(Catalog([], None, lambda path: pytest.fail(str(path))))
        routes = [route(gateway, "/slow", slow), route(gateway, "/stream", streamed)]
        async with httpx.AsyncClient(timeout=10) as http:
            async with HttpServer(create_app(gateway, routes), "127.0.0.1", 0, ending=gateway.ending.set) as running:
                url = f"http://127.0.0.1:{running.port}"
                asked = [asyncio.create_task(http.get(f"{url}/{path}")) for path in ("slow", "stream")]
                for each in begun:
                    await each.wait()
            plain, stream = [await each for each in asked]
            assert (plain.status_code, plain.json()["error"]["code"]) == (503, "shutting_down")
            assert plain.headers["retry-after"] == "5"
            last = [part for part in stream.text.split("\n\n") if part][-1]
            assert last.startswith("event: error")
            assert json.loads(last.partition("data: ")[2])["error"]["code"] == "shutting_down"
            with pytest.raises(httpx.ConnectError):
                await http.get(f"{url}/slow")
        assert not caplog.records

    asyncio.run(main())
