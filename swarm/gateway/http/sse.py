"""Answers that come bit by bit: server-sent events (WHATWG HTML, 9.2), ended as soon as nobody listens any more.

Pure ASGI. Knows nothing of what the events say.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from starlette.types import Receive, Scope, Send

T = TypeVar("T")

KEEPALIVE_SECONDS = 10.0  # between two signs of life while there is nothing to say
UNREAD_SECONDS = 60.0  # a reader that takes nothing for so long has left
COMMENT = b": still here\n"  # no empty line: some programs take it for the end of an event
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


class Stopping(Exception):
    """The gateway is shutting down, and this answer is not at its end."""

    def __init__(self) -> None:
        super().__init__("this gateway is shutting down: ask again, here later or at another one")


class EventStream:
    """An ASGI response made of events: `begin` it, then call it. It ends what is on `held` when it ends, however it does.

    What `events` raises after the first of them becomes an event itself, and the end. `alive` makes what is said while there
    is nothing to say: a comment, or an event, since some programs count events only and give up without.
    """

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        refuse: Callable[[Exception], bytes],
        held: AsyncExitStack | None = None,
        alive: Callable[[], bytes] = lambda: COMMENT,
    ) -> None:
        self._events = events
        self._alive = alive
        self._refuse = refuse
        self._held = held or AsyncExitStack()
        self._keepalive = KEEPALIVE_SECONDS
        self._next: asyncio.Future[bytes] | None = None  # the event that is waited for
        self._ending: asyncio.Event | None = None

    async def begin(self, keepalive_seconds: float, ending: asyncio.Event | None = None) -> None:
        """Wait for the first event, but not for longer than a reader goes without a sign of life. Raises what it raises.

        Once `ending` is set the stream ends, with a word.
        """
        self._keepalive, self._ending = keepalive_seconds, ending
        try:
            self._next = asyncio.ensure_future(anext(self._events))
            done, _ = await asyncio.wait({self._next}, timeout=keepalive_seconds)
            error = self._next.exception() if done else None
            if error is not None and not isinstance(error, StopAsyncIteration):
                raise error
        except BaseException:  # also of a cancelled request: what is held must not stay
            await self._close()
            raise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await while_connected(receive, self._pump(send), self._ending)
        except Disconnected:
            return
        except Stopping as stopping:
            await _say(send, self._refuse(stopping))
        finally:
            await self._close()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pump(self, send: Send) -> None:
        assert self._next is not None
        if not self._next.done():
            await _say(send, self._alive())
        while True:
            while not (await asyncio.wait({self._next}, timeout=self._keepalive))[0]:
                await _say(send, self._alive())
            try:
                said = self._next.result()
            except StopAsyncIteration:
                return
            except Exception as error:  # the headers are out: whatever it is, it can only be told as an event
                await _say(send, self._refuse(error))
                return
            await _say(send, said)
            self._next = asyncio.ensure_future(anext(self._events))

    async def _close(self) -> None:
        if self._next is not None and not self._next.done():
            self._next.cancel()
            await asyncio.wait({self._next})
        await self._events.aclose()
        await self._held.aclose()


async def while_connected(receive: Receive, work: Awaitable[T], ending: asyncio.Event | None = None) -> T:
    """The result of `work`, which is cancelled when whoever asked leaves, or when `ending` is set. Raises Disconnected then,
    or Stopping."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(receive))
    stopping = asyncio.ensure_future(ending.wait()) if ending is not None else None
    tasks: set[asyncio.Future[Any]] = {working, leaving} | ({stopping} if stopping is not None else set())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        if stopping is not None and stopping.done():
            raise Stopping
    finally:
        ended = [task for task in tasks if not task.done()]
        for task in ended:
            task.cancel()
        if ended:
            await asyncio.wait(ended)
        del working, ended, tasks  # an exception holds this frame, and would be held by it
    raise Disconnected


async def _left(receive: Receive) -> None:
    """Returns when the connection has ended. The request's body has been read before."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _say(send: Send, data: bytes) -> None:
    """Waits for a reader that is slow, so that nothing piles up. Raises Disconnected for one that does not read at all."""
    try:
        async with asyncio.timeout(UNREAD_SECONDS):
            await send({"type": "http.response.body", "body": data, "more_body": True})
    except TimeoutError:
        raise Disconnected from None
