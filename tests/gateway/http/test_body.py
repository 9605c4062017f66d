"""Bodies that are too long, too slow, too deep, or no JSON; methods and fields that nobody takes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from support.gateway import MODEL, serving

from swarm.gateway.http import server
from swarm.gateway.http.body import MAX_BODY_BYTES, MAX_DEPTH, read_json
from swarm.gateway.http.errors import FieldFault


def nested(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": [-Infinity]}', "-Infinity is no number"),
        (b'{"a": 1e999}', "1e999 is beyond all numbers"),
        (b'{"a": ' + b"1" * 5000 + b"}", "no JSON"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"a": "\xff"}', "no JSON"),
        (nested(MAX_DEPTH + 1), f"more than {MAX_DEPTH} deep"),
        (nested(100_000), "no JSON"),
        (b"[1]", "no JSON object"),
    ],
)
def test_what_cannot_be_written_down_again_is_no_json(body: bytes, words: str) -> None:
    with pytest.raises(FieldFault, match=words):
        read_json(body)


def test_json_is_read() -> None:
    assert read_json(b'{"a": 1.5, "a": "\\u00e9\\ud83d\\ude00"}') == {"a": "é😀"}, "the last of two"
    assert json.dumps(read_json(nested(MAX_DEPTH))).count("{") == MAX_DEPTH


def test_refusals_over_http() -> None:
    async def main() -> None:
        async with serving() as served, httpx.AsyncClient(base_url=served.url, timeout=30) as http:
            answer = await http.post("/v1/chat/completions", content=b" " * (MAX_BODY_BYTES + 1))
            assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_long")
            answer = await http.post("/v1/messages", content=b" " * (MAX_BODY_BYTES + 1))
            assert answer.json()["error"]["type"] == "request_too_large"
            answer = await http.post("/v1/models", content=b"{}")
            assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
            assert answer.json()["error"]["code"] == "method_not_allowed"
            answer = await http.get("/v1/nothing")
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
            answer = await http.post("/messages", json={})
            assert "did you mean /v1/messages?" in answer.json()["error"]["message"]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("/v1/completions", {"prompt": [10**9]}),
        ("/v1/completions", {"prompt": [-1]}),
        ("/v1/completions", {"prompt": [[]]}),
        ("/v1/completions", {"prompt": []}),
        ("/v1/completions", {"temperature": 10**400}),
        ("/v1/completions", {"top_k": -(10**400)}),
        ("/v1/completions", {"logit_bias": {"5": 10**400}}),
        ("/v1/completions", {"logit_bias": {"9" * 400: 1}}),
        ("/v1/completions", {"seed": 10**400}),
        ("/v1/completions", {"stop": "x" * 10_000}),
        ("/v1/completions", {"stream": True, "stop": "x" * 10_000}),
        ("/v1/embeddings", {"input": [10**9]}),
        ("/v1/embeddings", {"input": [[-1]]}),
        ("/v1/chat/completions", {"messages": [{"role": "user"}], "chat_template_kwargs": {"messages": 1}, "ignore_eos": True,
                                  "response_format": {"type": "json_object"}}),
        ("/v1/responses", {"input": "x", "tools": [{"type": "function", "name": ""}]}),
    ],
)  # fmt: skip
def test_hostile_fields_are_refused(path: str, change: dict[str, Any]) -> None:
    async def main() -> None:
        async with serving() as served, httpx.AsyncClient(base_url=served.url, timeout=30) as http:
            answer = await http.post(path, json={"model": MODEL, "prompt": "x", "max_tokens": 1, **change})
            assert answer.status_code == 400, answer.text
            assert "message" in answer.json()["error"]
            assert not served.gateway.generator.running

    asyncio.run(main())


def test_who_leaves_in_the_middle_of_a_body_is_no_bug() -> None:
    async def main() -> None:
        async with serving() as served:
            host, port = served.url.removeprefix("http://").split(":")
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{")
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            async with httpx.AsyncClient(base_url=served.url) as http:
                await http.get("/health")
        assert not [event for event in served.events if event.name.startswith("gateway.")]

    asyncio.run(main())


def test_logs_tell_nothing_that_was_asked() -> None:
    async def main() -> None:
        async with serving() as served, httpx.AsyncClient(base_url=served.url) as http:
            await http.post("/v1/completions", json={"model": MODEL, "prompt": {"my": "secret"}})
            (event,) = (event for event in served.events if event.name == "gateway.request")
            assert event.details["status"] == 400
            assert "secret" not in str(event)

    asyncio.run(main())


@pytest.mark.parametrize(
    "begun", [b"", b"GET /health HTTP/1.1\r\nhost: loc", b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\nGET /"]
)
def test_a_request_that_does_not_come_is_not_waited_for(begun: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEADER_SECONDS", 0.2)
    monkeypatch.setattr(server, "IDLE_SECONDS", 1)

    async def main() -> None:
        async with serving() as served:
            host, port = served.url.removeprefix("http://").split(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(begun)
            told = await asyncio.wait_for(reader.read(), 10)
            assert told.startswith(b"HTTP/1.1 200") == (b"\r\n\r\n" in begun)
            writer.close()

    asyncio.run(main())
