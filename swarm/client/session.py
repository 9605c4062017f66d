"""A generation's state along a chain: takes rows through it, and puts a replacement in the place of a worker that fails.

Failover is in docs/DESIGN.md, "Sessions and failover". The replacement is given the very inputs that the lost worker had; its
outputs must equal what the next hop was given, so a failover is also an audit.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass

from swarm.client.history import Entry, History
from swarm.client.link import HopFault, Link, close_links, open_links
from swarm.client.peers import Peers
from swarm.client.resolver import Resolver
from swarm.config import ClientConfig
from swarm.errors import (
    AuditFault,
    DeadlineExceeded,
    NoChain,
    Overloaded,
    PeerFault,
    SwarmError,
    UsageFault,
    WrongModel,
)
from swarm.identity import PeerId
from swarm.routing.chain import Chain, Hop
from swarm.span import LayerSpan, name_layers
from swarm.trace import Trace
from swarm.wire.messages import Rows
from swarm.wire.tensors import Tensor

PATIENCE = 2  # times that a running session waits for a worker whose queue is full


@dataclass(frozen=True, slots=True)
class Recovery:
    """One worker replaced in the course of a session."""

    peer_id: PeerId  # the one that was left
    span: LayerSpan  # its layers
    cause: str  # the error's text
    position: int  # rows that were replayed
    replacements: tuple[PeerId, ...]
    seconds: float  # from the error to the replacement being level


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
        max_rows: int,
    ) -> None:
        self._resolver = resolver
        self._peers = peers
        self._config = config
        self._trace = trace
        self._chain = chain  # to start with; None: the session looks for one
        self._last: Chain | None = None  # as it was when the session ended
        self.precision = precision  # of every hop
        self._max_rows = max_rows
        self._links: list[Link] = []
        self._outputs = History()  # of the last hop
        self._renewer: asyncio.Task[None] | None = None
        self._step_began = 0.0
        self._waiting_for: SwarmError | None = None  # what holds this step up, for the message at the deadline
        self.position = 0
        self.exact = True  # False once rows of another numerics class were let in
        self.recoveries: list[Recovery] = []

    async def __aenter__(self) -> ChainSession:
        async with self._deadline("a chain to open"):
            whole = LayerSpan(0, self._resolver.model.layer_count)
            self._links = await self._replace(whole, History(), History(), None, self._chain)
        self.exact = len({link.numerics for link in self._links}) == 1
        self._renewer = asyncio.create_task(self._renew(), name="renewals")
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._renewer is not None:
            self._renewer.cancel()
            await asyncio.gather(self._renewer, return_exceptions=True)
        if self._links:
            self._last = self.chain
        links, self._links = self._links, []
        await close_links(links)

    @property
    def chain(self) -> Chain:
        """The chain as it is now, or as it was when the session ended."""
        if self._last is not None:
            return self._last
        hops = tuple(link.hop for link in self._links)
        return Chain(self._resolver.model, LayerSpan(0, self._resolver.model.layer_count), hops)

    async def step(self, rows: Rows, tensor: Tensor) -> Tensor:
        """Rows [count, hidden] at the session's position through all layers; the position moves on.

        Raises DeadlineExceeded or NoChain when that is not possible in time, AuditFault when peers contradict each other.
        """
        async with self._deadline(f"rows at position {self.position}"):
            entry = Entry(rows, self.position, tensor)
            index = 0
            while index < len(self._links):
                link = self._links[index]
                try:
                    output = await _patiently(link, entry)
                except (PeerFault, Overloaded) as error:
                    await self._recover(index, error)
                    continue
                link.inputs.append(entry)
                entry = Entry(rows, entry.position, output)
                index += 1
        self._outputs.append(entry)
        self.position += entry.count
        self._check_size()
        return entry.tensor

    async def _recover(self, index: int, error: SwarmError) -> None:
        """Put replacements, brought level, in the place of a link that failed."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        lost = self._links[index]
        self._trace.started("session.failover", peer=lost.hop.peer_id.short, layers=lost.hop.span, error=str(error))
        self._blame(lost.hop, error)
        closing = asyncio.create_task(lost.close())
        after = self._links[index + 1].inputs if index + 1 < len(self._links) else self._outputs
        try:
            links = await self._replace(lost.hop.span, lost.inputs, after, lost, None)
        finally:
            await closing
        self._links[index : index + 1] = links
        recovery = Recovery(
            lost.hop.peer_id,
            lost.hop.span,
            str(error),
            lost.inputs.length,
            tuple(link.hop.peer_id for link in links),
            loop.time() - began,
        )
        self.recoveries.append(recovery)
        self._trace.complete(
            "session.failover",
            peer=lost.hop.peer_id.short,
            layers=lost.hop.span,
            to=",".join(link.hop.peer_id.short for link in links),
            rows=recovery.position,
            seconds=round(recovery.seconds, 3),
        )

    async def _replace(
        self, span: LayerSpan, inputs: History, after: History, lost: Link | None, chain: Chain | None
    ) -> list[Link]:
        """Open links over `span` and bring them level with `inputs`; tries until the deadline around it ends."""
        doubted: dict[PeerId, str] = {}  # whose replay differed from what the next hop was given -> what it was
        while True:
            try:
                if chain is None:
                    chain = await self._resolver.chain(
                        span,
                        precision=self.precision,
                        numerics=lost.numerics if lost else None,
                        barred=frozenset(doubted),
                    )
                links = await open_links(
                    chain.hops, self._peers, self._resolver.model, self.precision, self._config, self._max_rows, inputs
                )
                digest = await self._level(links, inputs, after, lost)
            except HopFault as fault:
                await self._endure(fault)
            except NoChain as hole:
                if doubted:
                    raise AuditFault(_disagreement(lost, doubted)) from hole
                if not isinstance(
                    self._waiting_for, Overloaded
                ):  # else a full worker is avoided for a moment, not missing
                    self._waiting_for = hole
                self._trace.failed("session.wait", missing=name_layers(hole.missing), reason=str(self._waiting_for))
                await asyncio.sleep(self._config.retry_seconds)
            else:
                self._waiting_for = None
                if digest is None:
                    for peer_id in doubted:
                        self._peers.suspect(peer_id)
                    return links
                if lost is None or digest in doubted.values():
                    raise AuditFault(_disagreement(lost, doubted))
                self._trace.failed("session.audit", lost=lost.hop.peer_id.short, layers=span)
                doubted.update((link.hop.peer_id, digest) for link in links)
            chain = None

    async def _endure(self, fault: HopFault) -> None:
        """A hop of the replacement failed too: never mind whose, but not the same again at once."""
        if not isinstance(fault.error, PeerFault | Overloaded | WrongModel):
            raise fault.error
        self._waiting_for = fault.error
        self._blame(fault.hop, fault.error)
        if isinstance(fault.error, Overloaded) and fault.error.retry_after == 0:
            raise fault.error

    async def _level(self, links: list[Link], inputs: History, after: History, lost: Link | None) -> str | None:
        """`_replay`, and links that are of no use are closed."""
        digest: str | None = ""
        try:
            digest = await self._replay(links, inputs, after, lost)
        finally:
            if digest is not None:
                await close_links(links)
        return digest

    async def _replay(self, links: list[Link], inputs: History, after: History, lost: Link | None) -> str | None:
        """Bring new links level. None when their outputs equal what came `after`, else a digest of the outputs.

        Raises HopFault.
        """
        outputs = hashlib.sha256()
        equal = True
        for segment in inputs.segments(self._config.replay_rows):
            entry = segment
            for index, link in enumerate(links):
                try:
                    output = await link.forward(entry)
                except SwarmError as error:
                    raise HopFault(link.hop, error) from error
                if index:
                    link.inputs.append(entry)
                entry = Entry(segment.rows, segment.position, output)
            outputs.update(entry.tensor.data)
            equal = equal and after.bytes_at(entry.position, entry.count) == entry.tensor.data
        if equal:
            return None
        if lost is not None and any(link.numerics != lost.numerics for link in links):
            self.exact = False  # another numerics class gives other bits: nothing can be concluded from them
            self._trace.failed("session.exactness", numerics=",".join(link.numerics for link in links))
            return None
        return outputs.hexdigest()

    def _blame(self, hop: Hop, error: BaseException) -> None:
        self._peers.suspect(hop.peer_id, _avoid_seconds(error))

    def _deadline(self, what: str) -> _Deadline:
        return _Deadline(self, self._config.deadline_seconds, what)

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


class _Deadline:
    """Ends what is inside after so many seconds, with an error that says what was being waited for."""

    def __init__(self, session: ChainSession, seconds: float, what: str) -> None:
        self._session = session
        self._seconds = seconds
        self._what = what
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        self._session._waiting_for = None
        await self._timeout.__aenter__()

    async def __aexit__(self, *exc: object) -> None:
        try:
            await self._timeout.__aexit__(*exc)  # type: ignore[arg-type]
        except TimeoutError:
            reason = self._session._waiting_for
            text = f"waited {self._seconds:g} s for {self._what}" + (f": {reason}" if reason else "")
            if isinstance(reason, NoChain):
                raise NoChain(text, reason.missing) from None
            if isinstance(reason, Overloaded):
                raise Overloaded(text, reason.retry_after) from None
            raise DeadlineExceeded(text) from None


async def _patiently(link: Link, entry: Entry) -> Tensor:
    """`link.forward`; a worker whose queue is full is given a little time, which costs less than a replay elsewhere."""
    for _ in range(PATIENCE):
        try:
            return await link.forward(entry)
        except Overloaded as error:
            if error.retry_after == 0:
                raise
            await asyncio.sleep(error.retry_after)
    return await link.forward(entry)


def _avoid_seconds(error: BaseException) -> float | None:
    """How long to prefer others after this error; None: as after any failure."""
    if isinstance(error, Overloaded):
        return error.retry_after
    return None


def _disagreement(lost: Link | None, doubted: dict[PeerId, str]) -> str:
    peers = ", ".join(peer_id.short for peer_id in doubted)
    if lost is None:
        return f"peers {peers} computed other rows than the session holds"
    return (
        f"peer {lost.hop.peer_id.short} and its replacements ({peers}) computed different rows for layers {lost.hop.span} "
        f"from the same inputs in one numerics class ({lost.numerics}): at least one of them lies or is broken, and no third "
        "peer confirms the rows that the answer so far rests on"
    )
