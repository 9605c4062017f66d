"""What programs are told when the swarm stalls, breaks or is full, and that those who leave at any moment leave nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from typing import Any

import anthropic
import httpx
import openai
import pytest
from support.gateway import DEMO, MODEL, Served, serving
from support.swarm import LocalSwarm

from swarm.config import ClientConfig

ASKED: list[Any] = [{"role": "user", "content": "a function that adds two numbers"}]
STREAM: dict[str, Any] = {"model": MODEL, "messages": ASKED, "max_tokens": 400, "stream": True, "ignore_eos": True}
PATHS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": STREAM,
    "/v1/completions": {"model": MODEL, "prompt": "def ", "max_tokens": 400, "stream": True, "ignore_eos": True},
    "/v1/messages": {"model": MODEL, "messages": ASKED, "max_tokens": 400, "stream": True},
    "/v1/responses": {"model": MODEL, "input": "x", "max_output_tokens": 400, "stream": True},
}


@asynccontextmanager
async def answering(spans: list[tuple[int, int]], **options: Any) -> AsyncIterator[tuple[LocalSwarm, Served]]:
    keepalive = options.pop("keepalive_seconds", 10.0)
    async with (
        LocalSwarm(DEMO, spans, precision="bf16", name=MODEL, **options) as swarm,
        serving(lambda path: swarm.client(model=path), directory=swarm.records, keepalive_seconds=keepalive) as served,
    ):
        yield swarm, served


@pytest.mark.parametrize("path", PATHS)
def test_a_stream_that_cannot_begin_has_its_status(path: str) -> None:
    async def main() -> None:
        config = ClientConfig(open_seconds=0.2, deadline_seconds=0.4)
        async with answering([(0, 8)], client_config=config) as (swarm, served), httpx.AsyncClient(timeout=60) as http:
            answer = await http.post(served.url + path, json=PATHS[path])
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert "8-23" in answer.json()["error"]["message"]
            assert not served.gateway.generator.running
            await swarm.freed(30)

    asyncio.run(main())


def test_a_stream_that_a_full_swarm_cannot_begin_says_when_to_come_again() -> None:
    async def main() -> None:
        config = ClientConfig(open_seconds=0.2, deadline_seconds=0.4)
        async with (
            answering([(0, 24)], cache_bytes=1 << 20, client_config=config) as (swarm, served),
            openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as client,
            anthropic.AsyncAnthropic(base_url=served.url, api_key="any", max_retries=0) as other,
        ):
            stage = swarm.workers[0].service.stage
            stage.open(stage.pool.tokens_free)  # somebody else's session
            with pytest.raises(openai.RateLimitError) as refused:
                await client.chat.completions.create(model=MODEL, messages=ASKED, max_tokens=1900, stream=True)
            assert int(refused.value.response.headers["retry-after"]) >= 1
            with pytest.raises(anthropic.RateLimitError):
                await other.messages.create(model=MODEL, messages=ASKED, max_tokens=1900, stream=True)

    asyncio.run(main())


async def break_off(swarm: LocalSwarm, served: Served) -> None:
    """Every worker dies as soon as an answer has begun."""
    with served.gateway.generator.bus.listen() as events:
        async for event in events:
            if event.name == "token":
                break
    for worker in swarm.workers:
        worker.kill()


@pytest.mark.parametrize("path", PATHS)
def test_layers_that_vanish_in_mid_stream_are_told_by_an_event_and_the_end(path: str) -> None:
    async def main() -> None:
        config = ClientConfig(open_seconds=0.3, deadline_seconds=0.6)
        async with answering([(0, 12), (12, 24)], client_config=config) as (swarm, served):
            breaking = asyncio.create_task(break_off(swarm, served))
            async with httpx.AsyncClient(timeout=60) as http:
                answer = await http.post(served.url + path, json=PATHS[path])
            await breaking
            assert answer.status_code == 200
            name, data = answer.text.rstrip("\n").split("\n\n")[-1].split("\n")
            assert name == "event: error"
            told = json.loads(data.removeprefix("data: "))
            if path == "/v1/responses":
                assert (told["type"], told["sequence_number"] > 0) == ("error", True)
                failed = json.loads(answer.text.rstrip("\n").split("\n\n")[-2].partition("data: ")[2])
                assert failed["type"] == "response.failed"
                assert failed["response"]["status"] == "failed"
                assert failed["response"]["error"] == {"code": told["code"], "message": told["message"]}
            elif path == "/v1/messages":
                assert (told["type"], "type" in told["error"]) == ("error", True)
            else:
                assert told["error"]["type"] == "server_error"
            assert "message" in told.get("error", told)
            assert "[DONE]" not in answer.text
            assert not served.gateway.generator.running

    asyncio.run(main())


def test_the_packages_raise_what_a_stream_tells() -> None:
    async def main() -> None:
        config = ClientConfig(open_seconds=0.3, deadline_seconds=0.6)
        async with (
            answering([(0, 24)], client_config=config) as (swarm, served),
            openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as client,
        ):
            breaking = asyncio.create_task(break_off(swarm, served))
            stream = await client.chat.completions.create(
                model=MODEL, messages=ASKED, max_tokens=400, stream=True, extra_body={"ignore_eos": True}
            )
            with pytest.raises(openai.APIError) as raised:
                assert [chunk async for chunk in stream]
            await breaking
            assert raised.value.message

    asyncio.run(main())


def test_a_stalled_swarm_gives_signs_of_life_and_the_answer_goes_on() -> None:
    async def main() -> None:
        async with (
            answering([(0, 24)], keepalive_seconds=0.05) as (swarm, served),
            httpx.AsyncClient(timeout=60) as http,
        ):
            body = {**STREAM, "max_tokens": 30, "temperature": 0}
            whole = (await http.post(f"{served.url}/v1/chat/completions", json=body)).text
            (worker,) = swarm.workers
            decode, calls = worker.service.stage.decode, count()

            def stalling(work: Any) -> list[Any]:
                """Its tenth answer is on its way when nothing gets through any more."""
                if next(calls) == 9:
                    worker.freeze()
                return decode(work)

            worker.service.stage.decode = stalling  # type: ignore[method-assign]
            lines: list[str] = []
            quiet = 0
            async with http.stream("POST", f"{served.url}/v1/chat/completions", json=body) as answer:
                async for line in answer.aiter_lines():
                    if '"delta":{},' in line and '"finish_reason":null' in line:
                        worker.thaw()
                        quiet += 1
                    lines.append(line)
            assert quiet
            assert text_of(lines) == text_of(whole.split("\n"))

    asyncio.run(main())


def text_of(lines: list[str]) -> str:
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {**STREAM, "stream": False, "n": 2}),
        ("/v1/chat/completions", STREAM),
        ("/v1/embeddings", {"model": MODEL, "input": ["def " * 500] * 8}),
        ("/v1/responses", {**PATHS["/v1/responses"], "stream": False}),
    ],
)
def test_who_leaves_before_anything_was_said_leaves_nothing(path: str, body: dict[str, Any]) -> None:
    async def main() -> None:
        async with answering([(0, 12), (12, 24)]) as (swarm, served):
            host, port = served.url.removeprefix("http://").split(":")
            content = json.dumps(body).encode()
            for steps in range(8):
                _, writer = await asyncio.open_connection(host, int(port))
                head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(content)}\r\n\r\n"
                writer.write(head.encode() + content)
                await writer.drain()
                for _ in range(3**steps):  # the last ones in the middle of the work
                    await asyncio.sleep(0)
                writer.transport.abort()
            await asyncio.wait_for(served.gateway.generator.idle(), 30)
            await swarm.freed(30)
            async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
                assert (await http.get("/health")).status_code == 200
            await swarm.freed(30)
            assert not [event for event in served.events if event.name == "gateway.bug"]

    asyncio.run(main())


@pytest.mark.parametrize("stop", ["a", "(", "def add", "return"])
def test_stops_are_whole_in_a_stream(stop: str) -> None:
    """No prefix of the stop is ever told."""

    async def main() -> None:
        async with serving() as served, httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            body = {"model": MODEL, "messages": ASKED, "max_tokens": 60, "temperature": 0}
            full = (await http.post("/v1/chat/completions", json=body)).json()["choices"][0]["message"]["content"]
            lines = (await http.post("/v1/chat/completions", json={**body, "stop": stop, "stream": True})).text.split(
                "\n"
            )
            assert text_of(lines) == full.partition(stop)[0]

    asyncio.run(main())


def test_characters_are_whole_in_a_stream() -> None:
    """Bytes of characters, one token each: none is told before it is whole, and a stream tells what is told at once."""

    async def main() -> None:
        async with serving() as served, httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            text = (await served.gateway.catalog.client(MODEL)).text
            bias = {str(token): 30 for token in text.encode("é漢😀", add_special=False)}
            body = {"model": MODEL, "messages": ASKED, "max_tokens": 60, "seed": 4, "temperature": 1.5}
            body |= {"logit_bias": bias, "stream": True}
            chunks = (await http.post("/v1/chat/completions", json=body)).text.split("\n")
            at_once = (await http.post("/v1/chat/completions", json={**body, "stream": False})).json()
            assert text_of(chunks) == at_once["choices"][0]["message"]["content"]

    asyncio.run(main())


def test_names_that_strangers_announce_are_no_labels() -> None:
    async def main() -> None:
        async with answering([(0, 24), (0, 24)]) as (swarm, served), httpx.AsyncClient(base_url=served.url) as http:
            stranger = swarm.workers[1]
            stranger.announce(model=replace(swarm.model, name="anything", digest=bytes(32)))
            figures = (await http.get("/metrics")).text
            assert 'swarm_workers{model="demo",state="serving"} 1.0' in figures
            assert 'swarm_workers{model="other",state="serving"} 1.0' in figures
            assert "anything" not in figures

    asyncio.run(main())
