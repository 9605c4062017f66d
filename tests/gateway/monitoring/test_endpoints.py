"""Health, metrics, status and events of a gateway over a swarm in this process, and one without a swarm."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
from support.gateway import MODEL, serving

from swarm.gateway.event_bus import MAX_WAITING, EventBus

ASKED = {"model": MODEL, "messages": [{"role": "user", "content": "add"}], "max_tokens": 6}


async def events_of(answer: httpx.Response) -> AsyncIterator[tuple[str, Any]]:
    name = ""
    async for line in answer.aiter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def test_status_and_metrics_of_a_local_gateway() -> None:
    async def main() -> None:
        async with serving() as served, httpx.AsyncClient(base_url=served.url, timeout=30) as http:
            assert (await http.get("/health")).json() == {"status": "ok", "models": [MODEL]}
            status = (await http.get("/api/status")).json()
            (model,) = status["models"]
            assert (model["id"], model["layers"], model["available"], model["missing"]) == (MODEL, 24, True, [])
            assert status["workers"] == status["sessions"] == []
            assert status["node"]["mode"] == "local"
            await http.post("/v1/chat/completions", json=ASKED)
            await http.post("/v1/chat/completions", json={})
            figures = (await http.get("/metrics")).text
            assert 'swarm_generated_tokens_total{model="demo"} 6.0' in figures
            assert 'swarm_requests_total{path="/v1/chat/completions",status="200"} 1.0' in figures
            assert 'swarm_requests_total{path="/v1/chat/completions",status="400"} 1.0' in figures
            assert "swarm_running_answers 0.0" in figures

    asyncio.run(main())


def test_events_tell_of_an_answer_from_its_beginning_to_its_end() -> None:
    async def main() -> None:
        async with serving() as served, httpx.AsyncClient(base_url=served.url, timeout=30) as http:
            async with http.stream("GET", "/api/events") as answer:
                events = events_of(answer)
                assert (await anext(events))[0] == "status"
                asking = asyncio.create_task(http.post("/v1/chat/completions", json=ASKED))
                seen: list[tuple[str, Any]] = []
                async for name, data in events:
                    seen.append((name, data))
                    if data.get("phase") == "ended":
                        break
                await asking
            names = {name for name, _ in seen}
            assert {"session", "token"} <= names
            (ended,) = (data for _, data in seen if data.get("phase") == "ended")
            assert ended["tokens"] == 6

    asyncio.run(main())


def test_a_slow_listener_misses_what_is_oldest() -> None:
    async def main() -> None:
        bus = EventBus()
        with bus.listen() as events:
            for number in range(MAX_WAITING + 5):
                bus.publish("token", number=number)
            assert (await anext(events)).data == {"number": 5}
        assert not bus.listened

    asyncio.run(main())


def test_a_gateway_that_stops_does_not_wait_for_those_who_watch() -> None:
    async def main() -> None:
        async with serving() as served, httpx.AsyncClient(base_url=served.url, timeout=30) as http:
            async with http.stream("GET", "/api/events") as answer:
                events = events_of(answer)
                assert (await anext(events))[0] == "status"
                served.gateway.generator.bus.close()
                rest = [name async for name, _ in events]
            assert rest in ([], ["end"])

    asyncio.run(main())
