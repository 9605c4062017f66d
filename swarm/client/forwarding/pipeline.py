"""A prompt's chunks one behind the other: while one is in the second hop the next is in the first.

Each stretch of a chain has a window of chunks that it was asked for and that have not come out; what comes out of one goes
into the next. A fault ends the whole: what came out of the last hop in order stays, the rest is taken through anew.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence

from swarm.client.forwarding.stretch import Interrupted, Journey, Passage
from swarm.client.hops.history import Entry
from swarm.client.hops.session import HopSession
from swarm.errors import Overloaded, PeerFault, SwarmError
from swarm.wire.rows import Rows
from swarm.wire.tensors import Tensor

WINDOW_CHUNKS = 8  # of one stretch, at most; a worker keeps as many answers for a question that comes late
WINDOW_BYTES = 32 << 20  # of their rows, unless one chunk has more


class Upcoming:
    """Chunks that have not come through all layers, in order."""

    def __init__(self, tensors: AsyncIterator[Tensor], position: int) -> None:
        self._tensors = tensors
        self._position = position  # of the next that is taken from there
        self._begun: deque[Entry] = deque()
        self._paused = False
        self._taking: asyncio.Future[Tensor | None] | None = None

    async def first(self) -> Entry | None:
        """The next to come through; None: there is none."""
        return self._begun[0] if self._begun else await self._take()

    def through(self) -> None:
        """It did."""
        self._begun.popleft()

    def pause(self) -> None:
        """Nothing more is begun by `run`."""
        self._paused = True

    async def run(self) -> AsyncIterator[Entry]:
        """Those begun before, and then others, until there are none or there is a pause."""
        self._paused = False
        for entry in tuple(self._begun):
            yield entry
        while not self._paused and (taken := await self._take()) is not None:
            yield taken

    async def _take(self) -> Entry | None:
        """Whoever waits may be cancelled; the next to ask then goes on waiting for the same chunk."""
        if self._taking is None:
            self._taking = asyncio.ensure_future(anext(self._tensors, None))
        tensor = await asyncio.shield(self._taking)
        self._taking = None
        if tensor is None:
            return None
        entry = Entry(Rows.CHUNK, self._position, tensor)
        self._position += entry.count
        self._begun.append(entry)
        return entry

    async def close(self) -> None:
        """No more are wanted."""
        if self._taking is not None:
            self._taking.cancel()
            await asyncio.wait({self._taking})


class Pipeline:
    """`await run(chunks, commit)`; commit is told of each chunk that came through all links, in order, and says
    whether to go on. What is under way then is dropped."""

    def __init__(self, stretches: Sequence[Sequence[HopSession]], asking: Callable[[HopSession], None]) -> None:
        """`asking` is told who is waited for."""
        self._stretches = [list(links) for links in stretches]
        self._asking = asking
        self.stopped: tuple[HopSession, SwarmError] | None = None  # by whom, and why, where it ended before its time

    async def run(self, chunks: AsyncIterator[Entry], commit: Callable[[Journey], bool]) -> None:
        """Until the chunks end, `commit` says that it is enough, or a link fails: then `stopped` says how."""
        tasks: list[asyncio.Task[None]] = []
        stages = [_Stage(links, self._asking) for links in self._stretches]
        source: AsyncIterator[Journey] = (Journey(entry) async for entry in chunks)
        for stage in stages:
            tasks.append(asyncio.create_task(stage.ask(source), name="pipeline"))
            source = stage.answers()
        committing = asyncio.create_task(_commit(source, commit), name="pipeline")
        tasks.append(committing)
        try:
            pending = set(tasks)
            while committing in pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        except Interrupted as fault:
            self.stopped = fault.link, fault.error
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for stage in stages:
                await stage.give_up()


async def _commit(chunks: AsyncIterator[Journey], commit: Callable[[Journey], bool]) -> None:
    async for chunk in chunks:
        if not commit(chunk):
            break


class _Stage:
    """One stretch of the chain."""

    def __init__(self, links: Sequence[HopSession], asking: Callable[[HopSession], None]) -> None:
        self._links = links
        self._asking = asking
        self._window = min(WINDOW_CHUNKS, len(links) + 1)
        self._under_way: asyncio.Queue[tuple[Journey, Passage] | None] = asyncio.Queue()
        self._count = self._bytes = 0  # of chunks that have not come out
        self._out = asyncio.Event()  # one came out

    async def ask(self, chunks: AsyncIterator[Journey]) -> None:
        async for chunk in chunks:
            size = chunk.entry.tensor.data.nbytes
            while self._count and (self._count >= self._window or self._bytes + size > WINDOW_BYTES):
                self._out.clear()
                await self._out.wait()
            self._count, self._bytes = self._count + 1, self._bytes + size
            self._under_way.put_nowait((chunk, Passage(self._links, chunk.entry)))
        self._under_way.put_nowait(None)

    async def answers(self) -> AsyncIterator[Journey]:
        """The chunks as they come out, in order."""
        free: list[float] = []
        while (each := await self._under_way.get()) is not None:
            chunk, passage = each
            size = chunk.entry.tensor.data.nbytes
            try:
                passed = await passage.wait(free, self._asking)
            except (PeerFault, Overloaded) as error:
                raise Interrupted((), self._links[0], error) from error
            free = [link.at for link in passed]
            chunk.came(passed)
            self._count, self._bytes = self._count - 1, self._bytes - size
            self._out.set()
            yield chunk

    async def give_up(self) -> None:
        """Nobody waits for what is under way."""
        while not self._under_way.empty():
            each = self._under_way.get_nowait()
            if each is not None:
                await each[1].give_up()
