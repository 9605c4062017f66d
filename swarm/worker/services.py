"""The spans that one worker serves: one takes new sessions, and those from which it moved let theirs end.

A message goes to the service that knows its session, and of a session that nobody knows to the one that takes new ones.
"""

from __future__ import annotations

import asyncio

from swarm.errors import Draining, UsageFault
from swarm.identity import PeerId
from swarm.wire.messages import Load, Message, Push
from swarm.worker.service import Exchange, WorkerService


class Services:
    """`async with Services()`: leaving ends all of them. At most one takes new sessions."""

    def __init__(self) -> None:
        self._current: WorkerService | None = None
        self._ending: list[WorkerService] = []  # from which the worker has moved, or is moving
        self._began = False
        self._rows_before = 0  # asked of services that have ended
        self._changed = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Services:
        self._watch = asyncio.create_task(self._watch_over(), name="services")
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._watch is not None
        self._watch.cancel()
        await asyncio.gather(self._watch, return_exceptions=True)
        self.retire()
        for service in list(self._ending):
            await self._close(service)

    @property
    def current(self) -> WorkerService:
        """That takes new sessions. Raises UsageFault before the first, Draining while another span is being loaded."""
        if self._current is not None:
            return self._current
        if self._began:
            raise Draining("this worker moves to other layers")
        raise UsageFault("this worker is still loading its layers")

    @property
    def serving(self) -> bool:
        """Whether there is one that takes new sessions, unless all are told to drain."""
        return self._current is not None

    @property
    def ending(self) -> tuple[WorkerService, ...]:
        return tuple(self._ending)

    @property
    def tasks(self) -> tuple[asyncio.Task[None], ...]:
        """Runs until the services are left; raises what ends the loop of one of them."""
        return (self._watch,) if self._watch else ()

    @property
    def rows_asked(self) -> int:
        """That came to be computed, since the beginning."""
        return self._rows_before + sum(service.rows_asked for service in self._all)

    @property
    def _all(self) -> list[WorkerService]:
        return [*([self._current] if self._current is not None else []), *self._ending]

    def load(self) -> Load:
        """Of the service that takes new sessions; the sessions are those of all."""
        sessions = sum(service.load().sessions for service in self._all)
        if self._current is None:
            return Load(0, sessions, 0, 0.0)
        load = self._current.load()
        return Load(load.queue_rows, sessions, load.cache_tokens_free, load.step_seconds)

    async def begin(self, service: WorkerService) -> None:
        """New sessions are this service's from now on; the one before it takes no more."""
        await service.__aenter__()
        self.retire()
        self._current, self._began = service, True
        self._changed.set()

    def retire(self) -> None:
        """No new sessions; those that run go on."""
        service, self._current = self._current, None
        if service is not None:
            service.drain()
            self._ending.append(service)

    async def finish(self, seconds: float) -> None:
        """Those that take no new sessions end, as soon as their sessions have, at the latest after so long."""
        for service in list(self._ending):
            try:
                async with asyncio.timeout(seconds):
                    await service.drained()
            except TimeoutError:
                pass  # whoever is asked next says that it has no such session, and it goes on elsewhere
            await self._close(service)

    def drain(self) -> None:
        """No new sessions any more; all that run go on."""
        for service in self._all:
            service.drain()

    async def drained(self) -> None:
        """Returns when no session is left that has not ended."""
        for service in self._all:
            await service.drained()

    async def handle(self, message: Message, exchange: Exchange) -> Message:
        """One request, one reply. Raises SwarmError for what becomes a Fault."""
        service = self._that_ends(getattr(message, "session_id", b"")) or self.current
        try:
            return await service.handle(message, exchange)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if service in self._all or (task is not None and task.cancelling()):
                raise
            # a step that was under way when its service ended is answered, too
            raise Draining("this worker has moved to other layers") from None

    def push(self, message: Push, peer_id: PeerId) -> None:
        """Rows that need no answer."""
        service = self._that_ends(message.session_id) or self._current
        if service is not None:  # else the owner, who misses them, goes on elsewhere
            service.push(message, peer_id)

    def _that_ends(self, session_id: bytes) -> WorkerService | None:
        """The service of this session, if it is one from which the worker moves."""
        return next((service for service in self._ending if service.knows(session_id)), None)

    def connection_lost(self, peer_id: PeerId) -> None:
        for service in self._all:
            service.connection_lost(peer_id)

    async def _close(self, service: WorkerService) -> None:
        self._ending.remove(service)
        self._rows_before += service.rows_asked
        self._changed.set()
        await service.__aexit__()

    async def _watch_over(self) -> None:
        """A loop of a service that ends by itself is a bug: it is not to go unnoticed."""
        while True:
            self._changed.clear()
            services = self._all
            changed = asyncio.create_task(self._changed.wait())
            try:
                await asyncio.wait(
                    {changed, *(task for each in services for task in each.tasks)}, return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                changed.cancel()
            for task in (task for each in services if each in self._all for task in each.tasks):
                if task.done() and not task.cancelled():
                    task.result()
                    raise RuntimeError(f"{task.get_name()} ended")
