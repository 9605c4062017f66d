"""A proxy that keeps what goes through it: every request of a program, and what the gateway answered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

HOP_BY_HOP = ("host", "connection", "content-length", "transfer-encoding", "keep-alive", "date", "server")
METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"]


@dataclass(slots=True)
class Exchange:
    """One request and its answer."""

    method: str
    path: str  # with its query
    headers: dict[str, str]
    body: bytes
    status: int = 0
    answer: bytearray = field(default_factory=bytearray)


class RecordingProxy:
    """An ASGI application in front of the gateway at `target`; `exchanges` is what came since it was last emptied."""

    def __init__(self, target: str) -> None:
        self.exchanges: list[Exchange] = []
        self._http = httpx.AsyncClient(base_url=target, timeout=None)
        self.app = Starlette(routes=[Route("/{path:path}", self._pass, methods=METHODS)])

    async def close(self) -> None:
        await self._http.aclose()

    async def _pass(self, request: Request) -> StreamingResponse:
        url = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        headers = {name: value for name, value in request.headers.items() if name not in HOP_BY_HOP}
        exchange = Exchange(request.method, url, headers, await request.body())
        self.exchanges.append(exchange)
        sent = {**headers, "accept-encoding": "identity"}
        made = self._http.build_request(request.method, url, headers=sent, content=exchange.body)
        answer = await self._http.send(made, stream=True)
        exchange.status = answer.status_code

        async def pieces() -> AsyncIterator[bytes]:
            try:
                async for piece in answer.aiter_raw():
                    exchange.answer.extend(piece)
                    yield piece
            finally:
                await answer.aclose()

        kept = {name: value for name, value in answer.headers.items() if name not in HOP_BY_HOP}
        return StreamingResponse(pieces(), answer.status_code, kept)
