"""The gateway over a swarm: workers killed in mid-stream, missing layers, programs that leave, LangChain."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from langchain_openai import ChatOpenAI
from support.gateway import DEMO, MODEL, Served, serving
from support.swarm import LocalSwarm

from swarm.client import Client
from swarm.config import ClientConfig, WorkerConfig

SPANS = [(0, 8), (0, 8), (8, 16), (8, 16), (16, 24), (16, 24)]
ASKED = [{"role": "user", "content": "a function that adds two numbers"}]
LEAVING_AT_ONCE = 25


@asynccontextmanager
async def answering(spans: list[tuple[int, int]], **options: Any) -> AsyncIterator[tuple[LocalSwarm, Served]]:
    async with (
        LocalSwarm(DEMO, spans, precision="bf16", name=MODEL, **options) as swarm,
        serving(lambda path: swarm.client(model=path), directory=swarm.records) as served,
    ):
        yield swarm, served


async def text_of(answer: httpx.Response) -> AsyncIterator[str]:
    async for line in answer.aiter_lines():
        if line.startswith("data: ") and line != "data: [DONE]":
            choices = json.loads(line.removeprefix("data: "))["choices"]
            if choices and choices[0]["delta"].get("content"):
                yield choices[0]["delta"]["content"]


async def unsplit(tokens: int) -> str:
    async with Client(DEMO, local=True) as client:
        return await client.generate(ASKED, max_tokens=tokens).read()


def test_a_worker_killed_in_the_middle_of_a_stream_changes_no_character() -> None:
    async def main() -> None:
        body = {"model": MODEL, "messages": ASKED, "max_tokens": 60, "temperature": 0, "stream": True}
        async with answering(SPANS) as (swarm, served), httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            watching = asyncio.create_task(failover_of(http))
            text = ""
            async with http.stream("POST", "/v1/chat/completions", json=body) as answer:
                async for piece in text_of(answer):
                    text += piece
                    if len(text) > 40 and all(worker.alive for worker in swarm.workers):
                        (choice,) = served.gateway.generator.running.values()
                        hop = choice.answer.session.chain.hops[1]  # type: ignore[union-attr]
                        swarm.worker(hop.peer_id.short).kill()
            told = await watching
        assert text == await unsplit(60)
        assert told["peer"] == hop.peer_id.hex()
        assert told["layers"] == str(hop.span)
        assert told["rows"] > 0

    asyncio.run(main())


async def failover_of(http: httpx.AsyncClient) -> Any:
    """The first failover that the events tell of."""
    name = ""
    async with http.stream("GET", "/api/events") as answer:
        async for line in answer.aiter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: ") and name == "failover":
                return json.loads(line.removeprefix("data: "))
    raise AssertionError("the events ended")


def test_missing_layers_are_named() -> None:
    async def main() -> None:
        config = ClientConfig(open_seconds=0.3)
        async with (
            answering([(0, 8), (16, 24)], client_config=config) as (_, served),
            httpx.AsyncClient(base_url=served.url, timeout=60) as http,
        ):
            assert (await http.get("/v1/models")).json()["data"] == []
            assert (await http.get("/health")).status_code == 503
            (model,) = (await http.get("/api/status")).json()["models"]
            assert (model["missing"], model["available"]) == (["8-15"], False)
            answer = await http.post("/v1/chat/completions", json={"model": MODEL, "messages": ASKED})
            assert answer.status_code == 503
            assert answer.headers["retry-after"]
            error = answer.json()["error"]
            assert error["code"] == "layers_missing"
            assert "8-15" in error["message"]

    asyncio.run(main())


def test_a_full_swarm_says_when_to_come_again() -> None:
    async def main() -> None:
        options = {"cache_bytes": 1 << 20, "client_config": ClientConfig(open_seconds=0.3, deadline_seconds=0.5)}
        async with answering([(0, 24)], **options) as (swarm, served), httpx.AsyncClient(timeout=60) as http:
            stage = swarm.workers[0].service.stage
            stage.open(stage.pool.tokens_free)  # somebody else's session
            body = {"model": MODEL, "messages": ASKED, "max_tokens": 1900}
            answer = await http.post(f"{served.url}/v1/chat/completions", json=body)
            assert answer.status_code == 429
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.json()["error"]["code"] == "overloaded"

    asyncio.run(main())


def test_a_wish_beyond_every_cache_is_a_ceiling_and_a_prompt_beyond_them_is_refused_at_once() -> None:
    async def main() -> None:
        async with (
            answering([(0, 24)], cache_bytes=3 << 19) as (swarm, served),
            httpx.AsyncClient(base_url=served.url, timeout=20) as http,
        ):
            held = swarm.workers[0].service.stage.pool.tokens_free
            (model,) = (await http.get("/v1/models")).json()["data"]
            assert model["context_length"] == held < 300
            asked = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
            for path, wish in (
                ("chat/completions", {}),
                ("chat/completions", {"max_tokens": 4096}),
                ("messages", {"max_tokens": 32000}),
            ):
                answer = await http.post(f"/v1/{path}", json=asked | wish)
                assert answer.status_code == 200, answer.text
            long = asked | {"max_tokens": 5, "messages": [{"role": "user", "content": "a word " * 300}]}
            answer = await http.post("/v1/chat/completions", json=long)
            assert answer.status_code == 400
            assert answer.json()["error"]["code"] == "context_length_exceeded"
            assert f"maximum context length is {held} tokens" in answer.json()["error"]["message"]
            answer = await http.post("/v1/messages", json=long)
            assert answer.status_code == 400
            assert answer.json()["error"]["message"].endswith(f"tokens > {held} maximum")

    asyncio.run(main())


@pytest.mark.parametrize("count", [50, pytest.param(1000, marks=pytest.mark.soak)])
def test_programs_that_leave_leave_nothing_behind(count: int) -> None:
    async def main() -> None:
        body = {"model": MODEL, "messages": ASKED, "max_tokens": 500, "ignore_eos": True, "stream": True}
        gate = asyncio.Semaphore(LEAVING_AT_ONCE)
        config = WorkerConfig(max_sessions=64)
        async with (
            answering([(0, 12), (12, 24)], worker_config=config) as (swarm, served),
            httpx.AsyncClient(base_url=served.url, timeout=120) as http,
        ):

            async def leave(number: int) -> None:
                async with gate, http.stream("POST", "/v1/chat/completions", json=body) as answer:
                    if number % 2:  # the others leave before they have seen a word
                        await anext(text_of(answer))

            await asyncio.gather(*map(leave, range(count)))
            await asyncio.wait_for(served.gateway.generator.idle(), 30)
            await swarm.freed(30)
            names = {task.get_coro().__qualname__ for task in asyncio.all_tasks()}  # type: ignore[union-attr]
            assert not {name for name in names if "EventStream" in name or "Answer" in name}
            answer = await http.post("/v1/chat/completions", json={**body, "max_tokens": 3, "stream": False})
            assert answer.status_code == 200

    asyncio.run(main())


def test_langchain() -> None:
    async def main() -> None:
        async with answering([(0, 24)]) as (_, served):
            model = ChatOpenAI(
                model=MODEL, base_url=f"{served.url}/v1", api_key="any", temperature=0, max_tokens=20, max_retries=0
            )  # type: ignore[call-arg,arg-type]
            expected = await unsplit(20)
            prompt = ASKED[0]["content"]
            assert (await model.ainvoke(prompt)).content == expected
            assert "".join([str(chunk.content) async for chunk in model.astream(prompt)]) == expected

    asyncio.run(main())
