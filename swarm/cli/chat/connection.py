"""Which swarm the chat talks to: a client that can be left for another one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import TYPE_CHECKING

from swarm.cli.chat.thread import Holder, LoopThread
from swarm.errors import SwarmError, UsageFault

if TYPE_CHECKING:
    from swarm.cli.answer.request import Request
    from swarm.client import Client

OpenClient = Callable[["Request"], AbstractAsyncContextManager["Client"]]


class Link:
    """`open` it, `move` it to what another request means, `close` it. In the main thread."""

    def __init__(self, request: Request, loop: LoopThread, open_client: OpenClient) -> None:
        self.request = request
        self.loop = loop
        self._open_client = open_client
        self._holder: Holder | None = None
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """Raises UsageFault."""
        if self._client is None:
            raise UsageFault("no swarm is joined: /connect HOST:PORT")
        return self._client

    def open(self) -> Client:
        """Raises SwarmError."""
        holder = self._holder = Holder(lambda: self._open_client(self.request))
        self._client = self.loop.run(holder.start())
        return self._client

    def close(self) -> None:
        holder, self._holder, self._client = self._holder, None, None
        if holder is not None:
            self.loop.run(holder.stop())

    def join(self, host: str, port: int) -> Client:
        """Another swarm, with a chain of its own. Raises SwarmError, and stays where it was if that is possible."""
        return self._move(replace(self.request, bootstrap=((host, port),), local=False, chain=()))

    def use(self, chain: tuple[str, ...]) -> Client:
        """These workers, or whichever are best. Raises SwarmError, as `join`."""
        if self.request.local:
            raise UsageFault("every layer is computed in this process: /connect HOST:PORT joins a swarm")
        return self._move(replace(self.request, chain=chain))

    def _move(self, request: Request) -> Client:
        before = self.request
        self.close()  # first: one key is used by one process, one port by one server
        try:
            self.request = replace(request, hint=False)
            return self.open()
        except (SwarmError, KeyboardInterrupt):
            self.close()
            self.request = replace(before, hint=False)
            self.open()
            raise
