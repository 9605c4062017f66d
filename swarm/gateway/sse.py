"""Answers that come bit by bit: server-sent events (WHATWG HTML, 9.2), ended as soon as nobody listens any more.

Pure ASGI. Knows nothing of what the events say.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.types import Receive, Scope, Send

T = TypeVar("T")

KEEPALIVE_SECONDS = 10.0  # between two signs of life while there is nothing to say
COMMENT = b": still here\n\n"
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # proxies would hold events back
]


def event(data: Any, name: str | None = None) -> bytes:
    """One event. Text goes as it is, anything else as JSON; neither holds line ends then."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return (f"event: {name}\n" if name else "").encode() + b"data: " + text.encode() + b"\n\n"


class Disconnected(Exception):
    """Whoever asked has left."""


class EventStream:
    """An ASGI response made of events. What `events` raises after its beginning becomes an event itself, and the end."""

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        refuse: Callable[[Exception], bytes],
        keepalive_seconds: float = KEEPALIVE_SECONDS,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._events = events
        self._refuse = refuse
        self._keepalive = keepalive_seconds
        self._headers = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS, *self._headers]})
        try:
            await while_connected(receive, self._pump(send))
        except Disconnected:
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pump(self, send: Send) -> None:
        async with aclosing(self._events) as events:
            try:
                while True:
                    following = asyncio.ensure_future(anext(events))
                    try:
                        while not (await asyncio.wait({following}, timeout=self._keepalive))[0]:
                            await _say(send, COMMENT)
                    except asyncio.CancelledError:
                        following.cancel()
                        await asyncio.wait({following})
                        raise
                    await _say(send, following.result())
            except StopAsyncIteration:
                return
            except Exception as error:  # the headers are out: whatever it is, it can only be told as an event
                await _say(send, self._refuse(error))


async def while_connected(receive: Receive, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled when whoever asked leaves. Raises Disconnected then."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
    finally:
        ended = [task for task in (working, leaving) if not task.done()]
        for task in ended:
            task.cancel()
        if ended:
            await asyncio.wait(ended)
    raise Disconnected


async def _left(receive: Receive) -> None:
    """Returns when the connection has ended. The request's body has been read before."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _say(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})
