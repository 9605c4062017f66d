"""The OpenAPI document is true enough for a machine to ask by it, and nothing that it asks makes the gateway fail."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support.gateway import MODEL, serving

from swarm.gateway.openai.document import document

EXAMPLES = 15  # for each operation
DOCUMENT = document()
ALL = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS = [result.ok() for result in ALL.get_all_operations()]


@contextmanager
def running() -> Iterator[str]:
    """A gateway on a loop of its own: schemathesis asks from outside."""
    ready, urls, stopping = threading.Event(), [], []

    async def main() -> None:
        stop = asyncio.Event()
        async with serving() as served:
            urls.append(served.url)
            stopping.append((asyncio.get_running_loop(), stop))
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    assert ready.wait(60)
    try:
        yield urls[0]
    finally:
        loop, stop = stopping[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running() as found:
        yield found


def shortened(path: str, body: Any) -> Any:
    """As drawn, but for the one model there is, and with an answer that takes a moment only."""
    if isinstance(body, dict):
        body = {**body, "model": MODEL, "stream": False}
        for field in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
            if isinstance(body.get(field), int):
                body[field] = min(body[field], 2)
        if "input" not in body:
            body["max_tokens"] = 2
        if path == "/v1/responses":
            body["max_output_tokens"] = 2
        body["n"] = 1
    return body


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.label)
def test_nothing_that_is_asked_makes_it_fail(operation: Any, url: str) -> None:
    @given(operation.as_strategy(), st.booleans())
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )
    def ask(case: Any, plausible: bool) -> None:
        if plausible:
            case.body = shortened(operation.path, case.body)
        answer = case.call(base_url=url, timeout=60)
        assert answer.status_code not in (500, 502), (answer.status_code, answer.text, case.body)
        if operation.path != "/metrics":
            json.loads(answer.text)

    ask()


def test_every_path_of_the_document_is_served() -> None:
    assert set(DOCUMENT["paths"]) >= {"/v1/chat/completions", "/v1/models/{model}", "/v1/messages"}
    assert all(schema["type"] == "object" for schema in DOCUMENT["components"]["schemas"].values())


def test_the_guide_names_every_path_and_every_part_of_the_status() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "API.md").read_text()
    assert not [path for path in DOCUMENT["paths"] if path.partition("/{")[0] not in guide]

    async def main() -> dict[str, Any]:
        async with serving() as served, httpx.AsyncClient(base_url=served.url) as http:
            return dict((await http.get("/api/status")).json())

    status = asyncio.run(main())
    parts = [*status, *status["node"], *status["models"][0]]
    assert not [part for part in parts if f'"{part}"' not in guide]
