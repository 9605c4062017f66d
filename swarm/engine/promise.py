"""What one piece of work that is computed in a batch comes to. Knows nothing of what is computed."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

T = TypeVar("T")


class Promise(Generic[T]):
    """A future for work whose errors hold it.

    An error holds the frames that it passed, and among them are those that hold the work: were the future kept there as well,
    error and work would live until a full garbage collection. So whoever has waited takes the future away.
    """

    def __init__(self) -> None:
        self._future: asyncio.Future[T] | None = asyncio.get_running_loop().create_future()

    @property
    def settled(self) -> bool:
        """Nobody waits for it any more: it came, or its caller left."""
        return self._future is None or self._future.done()

    def fulfil(self, result: T) -> None:
        """Does nothing once it is settled."""
        if self._future is not None and not self._future.done():
            self._future.set_result(result)

    def fail(self, error: Exception) -> None:
        """Does nothing once it is settled."""
        if self._future is not None and not self._future.done():
            self._future.set_exception(error)

    def cancel(self) -> None:
        """Whoever waits is cancelled."""
        if self._future is not None:
            self._future.cancel()

    async def wait(self) -> T:
        """The result, or the error, raised. May be called once."""
        assert self._future is not None
        try:
            return await self._future
        finally:
            self._future = None
