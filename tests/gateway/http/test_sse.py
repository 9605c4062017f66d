"""Events: signs of life, readers that are slow or gone, failures before and after the headers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from starlette.types import Message
from support.clock import run_virtual
from support.gateway import serving

from swarm.gateway.app import create_app
from swarm.gateway.endpoint import route
from swarm.gateway.http.server import HttpServer
from swarm.gateway.http.sse import COMMENT, UNREAD_SECONDS, EventStream, event


def refuse(error: Exception) -> bytes:
    return event(str(error), "error")


class Wire:
    """Both halves of an ASGI connection."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.gone = asyncio.Event()
        self.reads = asyncio.Event()
        self.reads.set()

    async def receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        await self.reads.wait()
        self.sent.append(message)

    @property
    def text(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


class Held:
    """Something that a stream has to give back."""

    def __init__(self) -> None:
        self.stack = AsyncExitStack()
        self.stack.callback(self._leave)
        self.left = False

    def _leave(self) -> None:
        self.left = True


def test_comments_keep_a_waiting_reader() -> None:
    async def main() -> None:
        async def events() -> AsyncGenerator[bytes, None]:
            await asyncio.sleep(25)
            yield event("first")
            await asyncio.sleep(11)
            yield event("second")

        wire, held = Wire(), Held()
        stream = EventStream(events(), refuse, held.stack)
        await stream.begin(10)
        await stream({}, wire.receive, wire.send)
        assert wire.text == COMMENT * 2 + event("first") + COMMENT + event("second")
        assert wire.sent[-1]["more_body"] is False
        assert held.left

    run_virtual(main())


def test_a_failure_before_the_first_event_is_raised_and_one_after_it_told() -> None:
    async def main() -> None:
        async def events(said: int) -> AsyncGenerator[bytes, None]:
            for _ in range(said):
                yield event("x")
            raise ValueError("broken")

        held = Held()
        with pytest.raises(ValueError, match="broken"):
            await EventStream(events(0), refuse, held.stack).begin(10)
        assert held.left
        wire, held = Wire(), Held()
        stream = EventStream(events(1), refuse, held.stack)
        await stream.begin(10)
        await stream({}, wire.receive, wire.send)
        assert wire.text == event("x") + event("broken", "error")
        assert held.left

    run_virtual(main())


@pytest.mark.parametrize("when", ["at once", "while waiting", "before it began"])
def test_who_leaves_at_any_moment_leaves_nothing(when: str) -> None:
    async def main() -> None:
        async def events() -> AsyncGenerator[bytes, None]:
            if when != "at once":
                await asyncio.sleep(1000)
            yield event("x")
            await asyncio.sleep(1000)

        wire, held = Wire(), Held()
        stream = EventStream(events(), refuse, held.stack)
        beginning = asyncio.create_task(stream.begin(10))
        if when == "before it began":
            await asyncio.sleep(0)
            beginning.cancel()
            await asyncio.wait({beginning})
        else:
            await beginning
            asyncio.get_running_loop().call_later(0 if when == "at once" else 5, wire.gone.set)
            await stream({}, wire.receive, wire.send)
        assert held.left

    run_virtual(main())


def test_a_reader_that_does_not_read_holds_events_back_and_then_has_left() -> None:
    async def main() -> None:
        made = 0

        async def events() -> AsyncGenerator[bytes, None]:
            nonlocal made
            while True:
                made += 1
                yield event("x")

        wire, held = Wire(), Held()
        stream = EventStream(events(), refuse, held.stack)
        await stream.begin(10)
        loop = asyncio.get_running_loop()
        wire.reads.clear()
        began = loop.time()
        loop.call_later(1, wire.reads.set)  # it takes the headers
        loop.call_later(1, loop.call_soon, loop.call_soon, wire.reads.clear)
        await stream({}, wire.receive, wire.send)
        assert held.left
        assert made < 10
        assert loop.time() - began == pytest.approx(1 + UNREAD_SECONDS)

    run_virtual(main())


def test_nothing_piles_up_for_a_socket_that_is_not_read() -> None:
    """More than the operating system's own buffers is never made."""
    size, limit = 64 << 10, 400

    async def main() -> None:
        made = 0

        async def events() -> AsyncGenerator[bytes, None]:
            nonlocal made
            while made < limit:
                made += 1
                yield event("x" * size)

        async def handler(_: Any) -> EventStream:
            return EventStream(events(), refuse)

        async with serving() as served:
            app = create_app(served.gateway, [route(served.gateway, "/all", handler)])
            async with HttpServer(app, "127.0.0.1", 0) as server:
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
                writer.write(b"GET /all HTTP/1.1\r\nhost: localhost\r\n\r\n")
                await reader.readuntil(b"\r\n\r\n")
                before = -1
                while made != before:  # until nothing moves any more
                    before = made
                    await asyncio.sleep(0.2)
                assert made < limit
                writer.close()

    asyncio.run(main())
