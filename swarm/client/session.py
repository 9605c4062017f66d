"""A generation's state along a chain: takes rows through it, and puts a replacement in the place of a worker that fails.

Failover is in docs/DESIGN.md, "Sessions and failover". The replacement is given the very inputs that the lost worker had; its
outputs must equal what the next hop was given, so a failover is also an audit. A worker that only became slow is left in the
same way (`failover.migration`), while it still works.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

from swarm.client.audits.auditor import Auditor
from swarm.client.audits.evidence import account_of
from swarm.client.deadline import Deadline
from swarm.client.failover.migration import Migrated, Migration, Timed
from swarm.client.failover.patience import cannot_grow, patiently, step_of
from swarm.client.failover.recoveries import Recoveries, Recovery
from swarm.client.failover.replacing import Replacing
from swarm.client.failover.standby import Standbys
from swarm.client.forwarding.edges import Edges, avoid_disputed
from swarm.client.forwarding.pipeline import Pipeline, Upcoming
from swarm.client.forwarding.quiet import Quiet, after_each, settle, told_at_end
from swarm.client.forwarding.stretch import Interrupted, Journey
from swarm.client.hops.history import Entry, History
from swarm.client.hops.session import HopSession
from swarm.client.hops.sessions import close_hop_sessions
from swarm.client.peers import Peers
from swarm.client.prefixes.prefix import Prefix
from swarm.client.resolver import Resolver
from swarm.client.room import Room
from swarm.config import ClientConfig
from swarm.engine import CHUNK_ROWS
from swarm.errors import (
    EdgeFault,
    Overloaded,
    PeerFault,
    ProtocolFault,
    SessionFault,
    SwarmError,
    UsageFault,
)
from swarm.identity import PeerId
from swarm.routing.chain import Chain
from swarm.span import LayerSpan
from swarm.trace import Trace
from swarm.wire.rows import Rows
from swarm.wire.tensors import Tensor

EDGES_SECONDS = 0.5  # that a prompt of several chunks waits for workers to reach each other: the price of a few chunks


class ChainSession:
    """`async with ChainSession(...) as session: await session.step(rows, tensor)`."""

    def __init__(
        self,
        resolver: Resolver,
        peers: Peers,
        config: ClientConfig,
        trace: Trace,
        chain: Chain | None,
        precision: str,
        room: Room,
        auditor: Auditor | None = None,
        begun: Prefix | None = None,
    ) -> None:
        self._resolver = resolver
        self._peers = peers
        self._config = config
        self._trace = trace
        self._chain = chain  # to start with; None: the session looks for one
        self._last: Chain | None = None  # as it was when the session ended
        self._directly: tuple[bool, ...] = ()  # likewise
        self.precision = precision  # of every hop
        self._room = room
        self._auditor = auditor
        self._begun = begun  # the session starts with the rows of these links, which are open
        self.keep = False  # whether the workers are to keep it when it ends, for others to begin with its rows
        self.kept: Prefix | None = None  # they do
        self._links: list[HopSession] = []
        self._outputs = History()  # of the last hop
        self._renewer: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()  # links that were left
        self._edges = Edges(peers, trace, direct=config.direct)
        self._replacing = Replacing(resolver, peers, config, trace, precision, room, auditor)
        self._quiet = Quiet()
        self._standbys = Standbys(resolver, peers, config, precision, room, auditor) if config.standby else None
        self._mover = Migration(resolver, peers, config, precision, room, auditor)
        self._deadline = Deadline(config.deadline_seconds, "")  # of what is under way
        self.position = 0
        self._recoveries = Recoveries(trace)

    async def __aenter__(self) -> ChainSession:
        if self._begun is not None:
            self._links, self._outputs, self._begun = list(self._begun.links), self._begun.outputs, None
            self.position = self._outputs.length
        else:
            async with self._within("a chain to open"):
                whole = LayerSpan(0, self._resolver.model.layer_count)
                self._links = await self._replacing.find(whole, History(), History(), None, self._chain, self._deadline)
        self._recoveries.opened(self._links)
        self._edges.join(self._links)
        self._renewer = asyncio.create_task(self._renew(), name="renewals")
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._links:
            self._last, self._directly = self.chain, self.direct
        renewer = self._renewer
        assert renewer is not None
        renewer.cancel()
        await self._mover.abandon()
        if self._standbys is not None:
            await self._standbys.close()
        told = (self.keep or self._auditor is not None) and await told_at_end(self._links, self._outputs)
        stem = self.stem if self.keep and told else None
        links, self._links = self._links, []
        outputs, self._outputs = self._outputs, History()  # whoever keeps the session keeps no rows
        await self._edges.close()
        await asyncio.gather(close_hop_sessions(links) if stem is None else self._rest(stem), *self._closing)
        avoid_disputed(links, self._directly, self._peers)
        if self._auditor is not None and links:
            self._auditor.session_ended(account_of(links, outputs).parts)
        await asyncio.wait({renewer})
        if not renewer.cancelled():
            renewer.result()  # it never ends by itself: a bug of ours

    async def _rest(self, stem: Prefix) -> None:
        if await stem.rest():
            self.kept = stem

    @property
    def stem(self) -> Prefix | None:
        """What others may begin with; None if rows of another numerics class were let in."""
        if not self._links or any(link.mixed for link in self._links):
            return None
        return Prefix(tuple(self._links), self._outputs, self.precision)

    @property
    def chain(self) -> Chain:
        """The chain as it is now, or as it was when the session ended."""
        if self._last is not None:
            return self._last
        hops = tuple(link.hop for link in self._links)
        return Chain(self._resolver.model, LayerSpan(0, self._resolver.model.layer_count), hops)

    @property
    def direct(self) -> tuple[bool, ...]:
        """Of each hop, whether it hands its rows to the next by itself; the last has none. As `chain`, also after the end."""
        if not self._links:
            return self._directly
        return (*(self._edges.direct(*pair) for pair in pairwise(self._links)), False)

    @property
    def recoveries(self) -> list[Recovery]:
        """Workers that were replaced, in turn."""
        return self._recoveries.all

    @property
    def exact(self) -> bool:
        """Whether all its rows are of one numerics class."""
        return self._recoveries.exact

    @property
    def standby(self) -> tuple[tuple[PeerId, ...], int]:
        """Workers that stood by, and how many rows they have computed beside the session's own."""
        return ((), 0) if self._standbys is None else (tuple(self._standbys.peers), self._standbys.rows)

    async def step(self, rows: Rows, tensor: Tensor) -> Tensor:
        """Rows [count, hidden] at the session's position through all layers; the position moves on.

        Raises DeadlineExceeded or NoChain when that is not possible in time, NoRoom when no chain holds more rows, AuditFault
        when peers contradict each other. A step that failed has not happened: it may be tried again.
        """
        entry = Entry(rows, self.position, tensor)
        self._room.check(entry.position + entry.count)
        async with self._within(f"rows at position {self.position}"):
            return await self._take_through(entry)

    async def _take_through(self, entry: Entry) -> Tensor:
        """A step, within the deadline that runs."""
        recoveries, journey = len(self.recoveries), Journey(entry)
        timed: list[Timed] = []
        if entry.rows is not Rows.DECODE or self._mover.waits:
            await self._settle()
        if moved := await self._mover.ready():
            self._move(moved)
        while (index := len(journey.given)) < len(self._links):
            links, silence = self._edges.stretch(self._links, index), None
            if not self._mover.busy and self._quiet.may(links, self._links, journey.entry):
                made = await self._quiet.through(links, journey.entry, self._deadline.asks)
                if isinstance(made, Tensor):
                    journey.came_quietly(len(links), made)
                    continue
                silence = made
            after = after_each(self._links, self._outputs)[index : index + len(links)]
            try:
                passed, steps = await patiently(links, journey.entry, self._deadline.asks, after, silence)
            except Interrupted as stopped:
                journey.came(stopped.passed)
                await self._get_over(stopped.link, stopped.error)
            except (PeerFault, Overloaded) as error:
                await self._recover(len(journey.given), error)
            else:
                journey.came(passed)
                self._quiet.took(links, journey.entry, [each.seconds for each in passed])
                timed += [Timed(out.link, step) for out, step in zip(passed, steps or (), strict=False)]
        for recovery in self.recoveries[recoveries:]:
            for peer_id in recovery.replacements:
                self._peers.trust(peer_id)
        self._commit(journey)
        if [each.link for each in timed] == self._links:  # else something disturbed it, and its times prove nothing
            self._mover.observe(timed, self._outputs, self.position)
        return journey.entry.tensor

    async def prompt(self, tensors: AsyncIterator[Tensor]) -> Tensor:
        """Chunks [count, hidden], one behind the other through all layers; what came of the last. Raises as `step` does.

        A chunk that a fault stopped is taken through by itself, as a step, and those behind it again one behind the other.
        """
        upcoming, last = Upcoming(tensors, self.position), None
        try:
            while await upcoming.first() is not None:
                last = await self._pipelined(upcoming)
        finally:
            await upcoming.close()
        if last is None:
            raise UsageFault("a prompt without a row")
        return last

    async def _pipelined(self, upcoming: Upcoming) -> Tensor:
        """Take chunks through, one at least, until something is to be done between two. What came of the last."""
        async with self._within(f"rows before position {self.position}"):
            await self._settle()
        if self._room.least - self.position > CHUNK_ROWS:
            await self._edges.settled(EDGES_SECONDS)
        links, stretches, last = tuple(self._links), self._edges.stretches(self._links), None

        def commit(chunk: Journey) -> bool:
            nonlocal last
            upcoming.through()
            self._commit(chunk)
            self._deadline.renew(f"rows at position {self.position}")
            last = chunk.entry.tensor
            timed = [Timed(each.link, step) for each in chunk.passed if (step := step_of(each, chunk.entry))]
            if len(timed) == len(links):
                self._mover.observe(timed, self._outputs, self.position)
            if self._edges.stretches(links) != stretches:
                upcoming.pause()
            return not self._mover.waits

        async with self._within(f"rows at position {self.position}"):
            pipeline = Pipeline(stretches, self._deadline.asks)
            await pipeline.run(self._fitting(upcoming.run()), commit)
            if pipeline.stopped is not None:
                await self._get_over(*pipeline.stopped)
            if last is None or pipeline.stopped or self._mover.waits:  # the next chunk goes by itself
                entry = await upcoming.first()
                if entry is not None:
                    last = await self._take_through(entry)
                    upcoming.through()
        assert last is not None
        return last

    async def _settle(self) -> None:
        """Have what hops did not tell yet, whatever has to be replayed for it."""
        while (failed := await settle(self._links, self._outputs)) is not None:
            await self._recover(self._links.index(failed[0]), failed[1])

    async def _get_over(self, link: HopSession, error: SwarmError) -> None:
        """Rows did not come through this link. Who is only overloaded is asked again, by itself and with patience."""
        index = self._links.index(link)
        before = self._links[index - 1] if index else None
        if before is not None and isinstance(error, ProtocolFault | SessionFault) and self._edges.direct(before, link):
            self._edges.distrust(before)  # what it pushed may have spoilt the session
        if before is not None and isinstance(error, EdgeFault):
            self._edges.part(before)
        elif isinstance(error, PeerFault):
            await self._recover(index, error)

    async def _fitting(self, entries: AsyncIterator[Entry]) -> AsyncIterator[Entry]:
        async for entry in entries:
            self._room.check(entry.position + entry.count)
            yield entry

    def _commit(self, journey: Journey) -> None:
        """Rows have come through all layers."""
        for link, entry in zip(self._links, journey.given, strict=True):
            if entry is not None:
                link.inputs.append(entry)
        self._outputs.append(journey.entry)
        self.position += journey.entry.count
        if self._standbys is not None:
            self._standbys.tend(self._links, self._outputs)
        self._check_size()

    async def _recover(self, index: int, error: SwarmError) -> None:
        """Put replacements, brought level, in the place of a link that failed, or whose worker has no room for more rows.

        The latter is left once there is another: without one the answer ends, and others may begin with its rows. Raises NoRoom.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        lost = self._links[index]
        full = cannot_grow(lost, self.position, error)
        self._trace.started("session.failover", peer=lost.hop.peer_id.short, layers=lost.hop.span, error=str(error))
        await self._mover.abandon(lost)
        if not full:
            self._replacing.blame(lost.hop, error)
            self._leave(lost)
        after = self._links[index + 1].inputs if index + 1 < len(self._links) else self._outputs
        links = None if full or self._standbys is None else await self._standbys.take(lost)
        if links is None:
            links = await self._replacing.find(lost.hop.span, lost.inputs, after, lost, None, self._deadline, full=full)
        if full:
            self._leave(lost)
        self._splice(lost, links)
        self._recoveries.replaced(lost, links, self._links, str(error), loop.time() - began)

    def _move(self, moved: Migrated) -> None:
        """Put replacements, already level, in the place of a link that is slow."""
        self._peers.suspect(moved.old.hop.peer_id)
        self._leave(moved.old)
        self._splice(moved.old, moved.links)
        self._recoveries.replaced(moved.old, moved.links, self._links, moved.cause, moved.seconds, moved=True)

    def _leave(self, link: HopSession) -> None:
        closing = asyncio.create_task(link.close(), name="closing")
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def _splice(self, old: HopSession, links: list[HopSession]) -> None:
        index = self._links.index(old)
        self._links[index : index + 1] = links
        self._edges.join(self._links)

    def _within(self, what: str) -> Deadline:
        self._deadline = Deadline(self._config.deadline_seconds, what)
        return self._deadline

    def _check_size(self) -> None:
        size = self._outputs.bytes + sum(link.inputs.bytes for link in self._links)
        if size > self._config.max_history_bytes:
            raise UsageFault(
                f"this session keeps {size} bytes for a replay, more than max_history_bytes = {self._config.max_history_bytes}"
            )

    async def _renew(self) -> None:
        """An idle hop's lease is renewed while another is being replaced or the caller is slow."""
        while True:
            await asyncio.sleep(self._config.renew_seconds / 2)
            await asyncio.gather(*(link.renew(self._config.renew_seconds) for link in self._links))
