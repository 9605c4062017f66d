"""Keeps a worker's record in the directory: signed anew every 20 s, so that it expires 60 s after the worker's death.

Who leaves says so: the last record is a tombstone, which nothing said before outlives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Protocol

from swarm.errors import Overloaded, SwarmError
from swarm.identity import Identity, PeerId
from swarm.records import ANNOUNCE_INTERVAL, MAX_LIFETIME, RECORD_LIFETIME, PeerRecord, PeerState, SignedRecord
from swarm.trace import Trace

RETRY_SECONDS = 2.0  # after an announcement that nobody stored
FAREWELL_SECONDS = 4.0  # that a leaving worker takes at most to say so


class Directory(Protocol):
    """What the announcer needs of the directory."""

    async def announce(self, signed: SignedRecord) -> int: ...


def highest_sequence(records: Iterable[SignedRecord], peer_id: PeerId) -> int:
    """Of a peer's announcements that a lookup found; 0 if there is none."""
    return max((signed.record.sequence for signed in records if signed.record.peer_id == peer_id), default=0)


class Announcer:
    """`async with Announcer(...)` announces until it is left; `describe(state)` gives the record's present content.

    `say` and `farewell` need no loop that runs.
    """

    def __init__(
        self,
        directory: Directory,
        identity: Identity,
        describe: Callable[[PeerState], PeerRecord],
        now: Callable[[], float],  # swarm time
        trace: Trace | None = None,
        above: int = 0,
    ) -> None:
        self._directory = directory
        self._identity = identity
        self._describe = describe
        self._now = now
        self._trace = trace or Trace()
        self._sequence = above  # the highest of an earlier run that others still hold
        self._last: PeerRecord | None = None  # said last
        self._task: asyncio.Task[None] | None = None
        self._announced = asyncio.Event()

    async def __aenter__(self) -> Announcer:
        self._task = asyncio.create_task(self._run(), name="announcer")
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stop()

    async def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def tasks(self) -> tuple[asyncio.Task[None], ...]:
        """The loop that runs until the announcer is left."""
        return (self._task,) if self._task else ()

    @property
    def sequence(self) -> int:
        """Of what was announced last."""
        return self._sequence

    async def first(self) -> None:
        """Returns when the first announcement was made, stored or not. Raises what ended the loop before."""
        assert self._task is not None
        waiting = asyncio.create_task(self._announced.wait())
        try:
            await asyncio.wait({waiting, self._task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if self._task.done():
            self._task.result()

    async def say(self, record: PeerRecord) -> int:
        """Announce this once, newer than everything before; how many hold it now. Raises what `Directory.announce` does."""
        now = self._now()
        # also above what an earlier run announced, unless its time was ahead of the present one: that is what `above` is for
        self._sequence = max(self._sequence + 1, int(now * 1000))
        # what is said last is also what expires last, even if swarm time went back meanwhile
        before = min(self._last.expires_at, now + MAX_LIFETIME) if self._last else 0.0
        expires = max(now + RECORD_LIFETIME, before)
        self._last = record.again(self._sequence, expires)
        return await self._directory.announce(self._last.sign(self._identity))

    async def withdraw(self) -> None:
        """Announce DRAINING, once, and stop announcing that the worker serves."""
        await self._end(self._describe(PeerState.DRAINING))

    async def farewell(self) -> None:
        """Announce GONE, once, if anything was announced, and stop announcing; within FAREWELL_SECONDS."""
        if self._last is not None and self._last.state is not PeerState.GONE:
            await self._end(replace(self._last, state=PeerState.GONE))

    async def _end(self, last: PeerRecord) -> None:
        await self._stop()
        try:
            async with asyncio.timeout(FAREWELL_SECONDS):
                await self.say(last)
        except (SwarmError, TimeoutError) as error:
            # nobody hears it: what was said before expires by itself, and the worker may leave all the same
            self._trace.failed("worker.withdraw", state=last.state.name.lower(), error=str(error) or "no answer")

    async def _run(self) -> None:
        while True:
            pause = ANNOUNCE_INTERVAL
            try:
                stored = await self.say(self._describe(PeerState.SERVING))
                self._trace.complete("worker.announce", replicas=stored)
                pause = pause if stored else RETRY_SECONDS
            except (
                Overloaded
            ) as error:  # many others serve the same layers; asking more often would only be refused more often
                self._trace.failed("worker.announce", error=str(error))
                pause = error.retry_after
            except SwarmError as error:  # the swarm may be out of reach for a while; the worker serves on
                self._trace.failed("worker.announce", error=str(error))
                pause = RETRY_SECONDS
            self._announced.set()
            await asyncio.sleep(pause)
