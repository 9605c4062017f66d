"""An HTTP server (uvicorn) on the event loop that is there, started and stopped like every other service."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from swarm.errors import PortInUse, UsageFault
from swarm.transport.tls.sockets import files_left

BACKLOG = 256
LOOPBACK, LOOPBACK_6 = "127.0.0.1", "::1"
MAX_TRIES = 8  # to find a port that is free at both
MAX_CONNECTIONS = 2048
LEAST_CONNECTIONS = 8  # however few files the process may open
SPARE_FILES = 24  # left to what answers need: connections to workers, models' files, newcomers
AT_ONCE = 1  # connections accepted in a turn of the loop: each is counted before the files are used up
HEADER_SECONDS = 20.0  # for a request's headers, from the connection's or their own beginning
IDLE_SECONDS = 15  # a connection without a request is closed after so long
GRACE_SECONDS = 4.0  # for answers under way when the server stops; then they are told that it does
LAST_SECONDS = 3  # and have so long to tell it on
MAX_HEADER_BYTES = 64 << 10

logger = logging.getLogger("swarm.http")


class HttpServer:
    """`async with HttpServer(app, host, port) as server`; `server.port`.

    Stopping, it takes no new connections; `leaving` is called before it waits for answers, and `ending` when it waits no longer.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        leaving: Callable[[], None] = lambda: None,
        ending: Callable[[], None] = lambda: None,
        *,
        option: str = "--api",
    ) -> None:
        self.host, self.port = host, port
        self._option = option  # by which the port was chosen
        self._app = app
        self._leaving = leaving
        self._ending = ending
        self._server: _Quiet | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Listen. Raises PortInUse, UsageFault."""
        bound = _listen(self.host, self.port, self._option)
        self.port = bound[0].getsockname()[1]
        room = _Room(max(LEAST_CONNECTIONS, min(MAX_CONNECTIONS, files_left() - SPARE_FILES)))
        config = uvicorn.Config(
            self._app,
            http=partial(_Impatient, room=room),  # type: ignore[arg-type]  # what is called to make one
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=room.connections + 1,
            backlog=AT_ONCE,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=int(GRACE_SECONDS) + LAST_SECONDS,
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        )
        self._server = _Quiet(config)
        self._task = asyncio.create_task(self._server.serve(sockets=bound), name="http")
        await self._server.begun.wait()
        for each in bound:
            each.listen(BACKLOG)  # as many wait their turn
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._server is not None
        assert self._task is not None
        self._leaving()
        self._server.should_exit = True
        await asyncio.wait({self._task}, timeout=GRACE_SECONDS)
        self._ending()
        await self._task

    @property
    def tasks(self) -> tuple[asyncio.Task[None], ...]:
        """The loop that runs until the server is left."""
        return (self._task,) if self._task else ()


class _Room:
    """For so many connections at once; where there is none, the idlest is closed."""

    def __init__(self, connections: int) -> None:
        self.connections = connections
        self._told = False

    def make(self, there: set[_Impatient]) -> None:
        """Close who has waited longest without a request, if there are too many; said the first time."""
        if len(there) <= self.connections:
            return
        still = [each for each in there if not each.transport.is_closing()]
        idle = [each for each in still if each.waiting]
        if len(still) <= self.connections or not idle:
            return
        min(idle, key=lambda each: each.since).transport.close()
        if not self._told:
            self._told = True
            logger.warning(
                "there is room for %d connections at once, and more come: the idlest are closed "
                "(`ulimit -n` says how many files a process may open)",
                self.connections,
            )


class _Impatient(H11Protocol):
    """HTTP in pure Python, and strict; closes connections whose request does not come, or not to the end of its headers."""

    _deadline: asyncio.TimerHandle | None = None
    since = 0.0  # when it began to wait, on the loop's clock

    def __init__(self, *args: Any, room: _Room, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._room = room

    @property
    def waiting(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self.since = self.loop.time()
        self._room.make(self.connections)  # type: ignore[arg-type]  # they are all of this class
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._rest()

    def _watch(self) -> None:
        if not self.waiting:
            self._rest()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _rest(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _Quiet(uvicorn.Server):
    """Leaves signals to whoever owns the process, and says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.begun = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]  # uvicorn's own, which installs handlers
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.begun.set()


def _listen(host: str, port: int, option: str) -> list[socket.socket]:
    """At an address; on loopback at both of its addresses, since programs take `localhost` for either. Raises PortInUse,
    UsageFault."""
    for _ in range(MAX_TRIES):
        first = _bind(host, port, option)
        if host != LOOPBACK:
            return [first]
        try:
            return [first, _bind(LOOPBACK_6, first.getsockname()[1], option)]
        except UsageFault:  # a machine without IPv6
            return [first]
        except PortInUse:
            first.close()
            if port:
                raise
    raise PortInUse(f"no port is free on both {LOOPBACK} and {LOOPBACK_6}: choose one with {option}")


def check_place(host: str, port: int, option: str) -> None:
    """Whether a gateway could listen there, before anything is loaded for it. Raises PortInUse, UsageFault."""
    for bound in _listen(host, port, option):
        bound.close()


def _bind(host: str, port: int, option: str) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            place = "PORT" if option == "--port" else f"{host}:PORT"
            message = f"another program listens on port {port} of {host}: choose another with {option} {place}"
            raise PortInUse(message) from error
        raise UsageFault(f"the API cannot listen on {host}, port {port}: {error.strerror or error}") from error
