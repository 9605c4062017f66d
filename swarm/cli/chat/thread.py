"""The client lives on an event loop in a thread of its own; the main thread, where Ctrl-C arrives, waits and shows."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

if TYPE_CHECKING:
    from swarm.client import Client

T = TypeVar("T")


class Running(Generic[T]):
    """Work that was begun on a `LoopThread`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> None:
        self._loop = loop
        self._task: asyncio.Task[T] | None = None
        self._ended: Future[None] = Future()
        loop.call_soon_threadsafe(self._begin, work)

    def _begin(self, work: Coroutine[Any, Any, T]) -> None:
        self._task = self._loop.create_task(work)
        self._task.add_done_callback(lambda _: self._ended.set_result(None))

    def wait(self, seconds: float | None = None) -> bool:
        """Whether it ended by then. In the main thread, where Ctrl-C is raised."""
        try:
            self._ended.result(seconds)
        except TimeoutError:
            return False
        return True

    def cancel(self) -> None:
        def cancel() -> None:
            if self._task is not None:
                self._task.cancel()

        self._loop.call_soon_threadsafe(cancel)

    def result(self) -> T:
        """Waits. Raises what the work raised, CancelledError if it was cancelled."""
        self.wait()
        assert self._task is not None
        return self._task.result()


class LoopThread:
    """`with LoopThread() as loop: loop.run(coroutine)`."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="client", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def begin(self, work: Coroutine[Any, Any, T]) -> Running[T]:
        return Running(self._loop, work)

    def call(self, function: Callable[[], None]) -> None:
        """Soon, over there."""
        self._loop.call_soon_threadsafe(function)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`. Ctrl-C cancels it, waits until it ended and is raised again."""
        running = self.begin(work)
        try:
            running.wait()
        except KeyboardInterrupt:
            running.cancel()
            running.wait()
            raise
        return running.result()


class Holder:
    """Keeps a client open in one task, from `start` to `stop`."""

    def __init__(self, open_client: Callable[[], AbstractAsyncContextManager[Client]]) -> None:
        self._open_client = open_client
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._opened = False

    async def start(self) -> Client:
        opened: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._hold(opened), name="client")
        either: set[asyncio.Future[Any]] = {self._task, opened}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not opened.done():
            self._task.result()
        return opened.result()

    async def _hold(self, opened: asyncio.Future[Client]) -> None:
        async with self._open_client() as client:
            self._opened = True
            opened.set_result(client)
            await self._stop.wait()

    async def stop(self) -> None:
        self._stop.set()
        if self._task is not None:
            if not self._opened:
                self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
