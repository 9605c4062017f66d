"""A conversation's next turn, over HTTP: what it shares with the one before is not computed anew, and is reported."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from support.gateway import DEMO, MODEL, serving
from support.swarm import LocalSwarm

KEYS = ("first", "second")
QUESTION = "a function that adds two numbers and says so. " * 12


async def ask(http: httpx.AsyncClient, key: str, messages: list[dict[str, str]]) -> dict[str, Any]:
    body = {"model": MODEL, "messages": messages, "max_tokens": 8, "temperature": 0}
    answer = await http.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_the_next_turn_reports_cached_tokens_to_its_own_key_alone() -> None:
    async def main() -> None:
        async with (
            LocalSwarm(DEMO, [(0, 12), (12, 24)], precision="bf16", name=MODEL) as swarm,
            serving(lambda path: swarm.client(model=path), directory=swarm.records, keys=KEYS) as served,
            httpx.AsyncClient(base_url=served.url, timeout=60) as http,
        ):
            messages = [{"role": "user", "content": QUESTION}]
            first = await ask(http, "first", messages)
            assert first["usage"]["prompt_tokens"] > 128
            assert first["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
            messages += [first["choices"][0]["message"], {"role": "user", "content": "go on"}]
            messages[1] = {"role": "assistant", "content": messages[1]["content"]}
            hit = await ask(http, "first", messages)
            miss = await ask(http, "second", messages)
            assert hit["usage"]["prompt_tokens_details"]["cached_tokens"] >= first["usage"]["prompt_tokens"]
            assert miss["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
            assert hit["choices"][0]["message"] == miss["choices"][0]["message"]

    asyncio.run(main())
