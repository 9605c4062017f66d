"""Where the API listens, whom a port in use is blamed on, and what is said at paths that nobody knows."""

from __future__ import annotations

import asyncio
import socket

import pytest
from starlette.responses import PlainTextResponse

from swarm.errors import PortInUse
from swarm.gateway.app import nearest
from swarm.gateway.http import server as http_server
from swarm.gateway.http.server import LEAST_CONNECTIONS, HttpServer

APP = PlainTextResponse("here")
ASKED = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"
KNOWN = ("/", "/health", "/v1/models", "/v1/models/{model:path}", "/v1/chat/completions", "/v1/completions", "/v1/messages",
         "/v1/messages/count_tokens", "/v1/responses", "/api/status")  # fmt: skip


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def test_both_loopbacks_are_served() -> None:
    async def main() -> None:
        async with HttpServer(APP, "127.0.0.1", 0) as server:
            for host in ("127.0.0.1", "::1") if has_ipv6() else ("127.0.0.1",):
                reader, writer = await asyncio.open_connection(host, server.port)
                writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                assert (await reader.read()).endswith(b"here")
                writer.close()

    asyncio.run(main())


@pytest.mark.parametrize(("option", "words"), [("--port", "with --port PORT"), ("--api", "with --api 127.0.0.1:PORT")])
def test_a_port_in_use_is_blamed_on_the_option_that_was_given(option: str, words: str) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(PortInUse, match=words):
            async with HttpServer(APP, "127.0.0.1", taken.getsockname()[1], option=option):
                pass

    asyncio.run(main())


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/messages", "/v1/messages"),
        ("/v1/v1/messages", "/v1/messages"),
        ("/chat/completions", "/v1/chat/completions"),
        ("/completions", "/v1/completions"),
        ("/openai/v1/models", "/v1/models"),
        ("/v1/chat/completion", "/v1/chat/completions"),
        ("/messages/count_tokens/", "/v1/messages/count_tokens"),
        ("/v1/message", "/v1/messages"),
        ("/favicon.ico", None),
        ("/v1/audio/speech", None),
    ],
)
def test_a_wrong_path_is_told_the_right_one(path: str, meant: str | None) -> None:
    assert nearest(path, KNOWN) == meant


def test_the_idlest_connection_makes_room_and_it_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(http_server, "files_left", lambda: 0)

    async def main() -> None:
        async with HttpServer(APP, "127.0.0.1", 0) as server:
            first = await asyncio.open_connection("127.0.0.1", server.port)
            first[1].write(ASKED)
            assert (await first[0].readuntil(b"here")).startswith(b"HTTP/1.1 200")
            more = []
            for _ in range(2 * LEAST_CONNECTIONS):
                more.append(await asyncio.open_connection("127.0.0.1", server.port))
                more[-1][1].write(ASKED)
                assert (await more[-1][0].readuntil(b"here")).startswith(b"HTTP/1.1 200")
            assert await first[0].read() == b""  # closed
            for reader, _ in more[:LEAST_CONNECTIONS]:
                assert await reader.read() == b""
            for _, writer in more[LEAST_CONNECTIONS:]:
                assert not writer.transport.is_closing()
            for _, writer in (first, *more):
                writer.close()

    asyncio.run(main())
    (record,) = caplog.records
    assert f"room for {LEAST_CONNECTIONS} connections at once, and more come: the idlest are closed" in record.message
