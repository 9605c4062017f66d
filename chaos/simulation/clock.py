"""Virtual time: `run_virtual(coroutine)` on a loop whose clock jumps to the next timer when nothing is ready.

An hour of sleeping takes no time, and two runs see the same times. Work given to `run_in_executor` or `to_thread` takes
no virtual time: the clock stands while such a thread computes. Real sockets are refused: bytes from outside know no
virtual time.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")

START = 1000.0  # seconds; not 0, so that nobody takes "no time yet" for a time
STUCK_SECONDS = 30.0  # real seconds without any thread waking the loop after which a run is declared stuck


class Stuck(RuntimeError):
    """No timer is set, nothing is ready and no thread reported: what is awaited can never happen."""


class _Selector(selectors.DefaultSelector):
    """Asks the real selector without waiting, and moves the loop's clock instead. Waits only for threads."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and not self.loop.threads_busy:
            self.loop.advance(max(0.0, timeout))
            return []
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        ready = super().select(STUCK_SECONDS)
        if not ready:
            raise Stuck(f"nothing happened for {STUCK_SECONDS:.0f} real seconds at virtual {self.loop.time():.3f} s")
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose `time()` only moves when there is nothing else to do."""

    def __init__(self) -> None:
        self._now = START
        self.threads_busy = 0  # calls given to run_in_executor that have not returned
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock without running timers in between, as a process that was stopped finds it."""
        self._now += seconds

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        future = super().run_in_executor(executor, func, *args)
        self.threads_busy += 1
        future.add_done_callback(self._thread_done)
        return future

    def _thread_done(self, _: Any) -> None:
        self.threads_busy -= 1

    async def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise RuntimeError("no real sockets under virtual time: use MemoryNetwork, or asyncio.run")

    create_connection = create_server = create_datagram_endpoint = connect_accepted_socket = _refuse
    create_unix_connection = create_unix_server = _refuse
    sock_connect = sock_accept = sock_recv = sock_recv_into = sock_recvfrom = sock_sendall = sock_sendto = _refuse


def run_virtual(main: Coroutine[Any, Any, T], *, debug: bool | None = None) -> T:
    """Like `asyncio.run`, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop, debug=debug) as runner:
        return runner.run(main)
