"""One hop of a session: the worker's session on a channel, the inputs it was given, and how to bring a new one level.

A link asks and keeps; whom to ask instead when it fails is decided in `session`.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Callable

from swarm.client.failover.busy_limit import BusyLimit
from swarm.client.history import Entry, History
from swarm.client.peers import Peers
from swarm.errors import EdgeFault, Overloaded, PeerFault, PeerLost, PeerStalled, ProtocolFault
from swarm.precision import any_cut
from swarm.records import ModelRef
from swarm.routing.chain import Hop
from swarm.transport.channels.channel import Channel
from swarm.wire.messages import (
    MAX_ADDRESSES,
    Close,
    Closed,
    Connect,
    Connected,
    Expect,
    Forward,
    Load,
    Message,
    Open,
    Opened,
    Renew,
    Result,
    Working,
)
from swarm.wire.receipts import INLINE_BYTES, Receipt, Tally, hash_rows
from swarm.wire.rows import SESSION_ID_BYTES, Rows
from swarm.wire.tensors import Tensor, is_finite, same_ends
from swarm.wire.tickets import issue

REDIAL_SECONDS = 1.0  # a lost connection to a live worker is made again within this, or the worker is given up
CLOSE_SECONDS = 1.0  # for telling a worker that the session ended
EDGE_SECONDS = 2.0  # for rows that one worker says it handed on, and the next has not got
RENEW_SECONDS = 5.0  # for renewing a lease; others' are not to wait for a worker that does not answer


class HopSession:
    """`HopSession.open(...)`, then `forward` for each entry, `close` at the end."""

    def __init__(
        self, hop: Hop, channel: Channel, peers: Peers, session_id: bytes, model_digest: bytes, inputs: History
    ) -> None:
        self.hop = hop
        self.inputs = inputs
        self.numerics = hop.numerics
        self.mixed = False  # the rows that the session holds after it are in part another's, of another numerics class
        self.rows = 0  # that the worker is known to have room for
        self.load = Load(0, 0, 0, 0.0)  # of the worker, as its last reply said
        self.receipts: list[Receipt] = []  # the worker's, of rows in order, none twice: never more than rows
        self.disputed = False  # its last receipt, which came when the session had ended, does not fit
        self._channel = channel
        self._peers = peers
        self._session_id = session_id
        self._tally = Tally(session_id, hop.span, model_digest, hop.numerics)
        self._asked_step = (
            self._taken_step
        ) = -1  # the last; unlike: what the worker answered, if it did, is not in the tally
        self._handed: dict[int, float] = {}  # of steps that are expected: when the link before it had handed them on
        self._answered = 0  # questions for rows
        self._used_at = 0.0
        self._counted = False  # in the client's traffic

    @classmethod
    async def open(
        cls,
        hop: Hop,
        peers: Peers,
        model: ModelRef,
        precision: str,
        max_rows: int,
        inputs: History,
        parent: HopSession | None = None,
    ) -> HopSession:
        """A new session at the hop's worker; with a parent, one at the same worker, it begins with `inputs`, which that had,
        or with as many of them as the worker can give.

        Raises PeerFault, Overloaded or WrongModel.
        """
        session_id = secrets.token_bytes(SESSION_ID_BYTES)
        link = cls(hop, await peers.channel(hop), peers, session_id, model.digest, inputs)
        try:
            named = (parent._session_id, inputs.length) if parent else (None, 0)
            reply = await link._ask(Open(session_id, model.digest, hop.span, precision, max_rows, *named))
        except asyncio.CancelledError:
            await link.close()  # the worker may have opened it by now, or may do so yet
            raise
        if not isinstance(reply, Opened) or reply.session_id != session_id:
            await link.close()
            raise ProtocolFault(f"peer {hop.peer_id.short} answered Open with {type(reply).__name__}")
        link.numerics = link._tally.numerics = reply.numerics
        if parent is not None:
            try:
                link._begin_with(parent, reply)
            except PeerFault:
                await link.close()
                raise
        link.rows = max_rows
        link._noticed(reply.load)
        peers.traffic.opened(hop.peer_id)
        link._counted = True
        return link

    async def forward(self, entry: Entry) -> Tensor:
        """The hop's outputs for these rows. A connection that broke is made again once: the worker may be well.

        Its receipt, when one is due, must fit what was sent and what came.

        Raises PeerFault or Overloaded.
        """
        step = self.next_step()
        return await self.take(entry, step, await self.ask(entry, step))

    def next_step(self) -> int:
        """A number by which no other question goes, whatever becomes of it."""
        return next(self._peers.steps)

    async def ask(self, entry: Entry, step: int, onward: int = 0) -> Result:
        """Give the worker these rows, and wait for what it makes of them; for so many hops it goes on by itself.

        Raises PeerFault, Overloaded.
        """
        message = Forward(self._session_id, step, entry.position, entry.rows, entry.tensor, onward)
        return await self._persist(message, entry)

    async def expect(self, entry: Entry, step: int) -> Result:
        """The worker is to have such rows from the one before it. Raises PeerFault, Overloaded; EdgeFault if they do not come."""
        self._handed[step] = math.inf
        try:
            return await self._persist(Expect(self._session_id, step), entry)
        finally:
            self._handed.pop(step, None)

    def handed(self, step: int) -> None:
        """The link before it has handed on the rows of a step."""
        if step in self._handed:
            self._handed[step] = asyncio.get_running_loop().time()

    async def take(self, entry: Entry, step: int, reply: Result) -> Tensor:
        """What it made of these rows, which are as those it was given. Raises ProtocolFault."""
        self._check(reply, entry, step)
        await self._count(entry, reply)
        self._taken_step = step
        self.rows = max(self.rows, entry.position + entry.count)
        self._noticed(reply.load)
        self._peers.trace.complete(
            "hop.forward", peer=self.hop.peer_id.short, position=entry.position, rows=entry.count
        )
        return reply.tensor

    async def connect(self, following: HopSession, epoch: int) -> None:
        """Let the worker hand its rows to another link's worker by itself. Raises PeerFault, Overloaded."""
        owner, hop = self._peers.identity, following.hop
        assert owner is not None
        ticket = issue(owner, following._session_id, epoch, self.hop.peer_id)
        places = tuple((address.host, address.data) for address in hop.addresses[:MAX_ADDRESSES])
        reply = await self._ask(Connect(self._session_id, epoch, following._session_id, hop.peer_id, places, ticket))
        if reply != Connected(self._session_id, epoch):
            raise ProtocolFault(f"peer {self.hop.peer_id.short} answered Connect with {type(reply).__name__}")

    async def _persist(self, message: Forward | Expect, entry: Entry) -> Result:
        """Ask, over a new connection if the old one breaks."""
        peer_id, traffic, loop = self.hop.peer_id, self._peers.traffic, asyncio.get_running_loop()
        self._asked_step = message.step
        self._peers.trace.started("hop.forward", peer=peer_id.short, position=entry.position, rows=entry.count)
        if entry.rows is Rows.CHUNK:
            traffic.chunk_began(peer_id)
        try:
            try:
                reply = await self._ask(message, self._wait(message.step))
            except PeerLost as lost:
                try:
                    self._channel = await self._peers.channel(self.hop, REDIAL_SECONDS)
                except PeerFault:
                    raise lost from None  # why the connection ended says more than why it cannot be made again
                reply = await self._ask(message, self._wait(message.step))
        finally:
            if entry.rows is Rows.CHUNK:
                traffic.chunk_ended(peer_id, loop.time())
        self._answered += 1
        if not isinstance(reply, Result):
            raise ProtocolFault(f"peer {peer_id.short} answered {type(message).__name__} with {type(reply).__name__}")
        return reply

    def shared(self, since: float) -> bool:
        """Whether a prompt of another session may have held up a decode row that was asked for then."""
        return self._peers.traffic.chunks_since(self.hop.peer_id, self.load.sessions, since)

    @property
    def patience(self) -> float:
        """Of sessions that all wait for each other's rows, one gives up first: from 0 to 1, by its name."""
        return int.from_bytes(self._session_id[:2], "big") / 0xFFFF

    async def renew(self, idle_seconds: float) -> None:
        """Keep the lease of a session that was idle for so long. A peer that fails is noticed when it is needed."""
        if asyncio.get_running_loop().time() - self._used_at < idle_seconds:
            return
        try:
            async with asyncio.timeout(RENEW_SECONDS):
                await self._ask(Renew(self._session_id))
        except (PeerFault, Overloaded, TimeoutError):
            self._used_at = asyncio.get_running_loop().time()

    async def rest(self) -> bool:
        """The session has ended and may be another's parent: whether the worker keeps it. Takes the last receipt."""
        self._uncount()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                reply = await self._ask(Renew(self._session_id, idle=True))
        except (PeerFault, Overloaded, TimeoutError):
            self._taken_step = -1  # the receipt may have gone with the reply
            return False
        if isinstance(reply, Opened):
            self._take_last(reply.receipt)
        return isinstance(reply, Opened) and not self.disputed

    async def close(self) -> None:
        """Free the worker's cache, and take the last receipt. A peer that does not answer frees it by itself."""
        self._uncount()
        channel = self._peers.open_channel(self.hop.peer_id)  # perhaps another session made a new one
        if channel is None:
            return
        self._channel = channel
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                reply = await self._ask(Close(self._session_id))
        except (PeerFault, Overloaded, TimeoutError):
            return
        if isinstance(reply, Closed):
            self._take_last(reply.receipt)

    def _uncount(self) -> None:
        if self._counted:
            self._counted = False
            self._peers.traffic.closed(self.hop.peer_id)

    def _begin_with(self, parent: HopSession, reply: Opened) -> None:
        """The session has the first rows of another. Raises PeerFault."""
        rows = reply.position
        fits = 0 < rows <= self.inputs.length if any_cut(reply.numerics) else self.inputs.ends_at(rows)
        if not fits or reply.numerics != parent.numerics:
            raise ProtocolFault(
                f"peer {self.hop.peer_id.short} opened a session at row {rows} in {reply.numerics}, where row "
                f"{self.inputs.length} in {parent.numerics} was asked for"
            )
        self.inputs = self.inputs.head(rows)
        self._tally = parent._tally.branch(self._session_id, rows)
        self.receipts.append(self._tally.check(reply.receipt, self.hop.peer_id))

    def _take_last(self, receipt: Receipt | None) -> None:
        """Of the rows that have none, once the session has ended."""
        if self._tally.pending and self._asked_step == self._taken_step and not self.disputed:
            try:
                self.receipts.append(self._tally.check(receipt, self.hop.peer_id))
            except ProtocolFault as fault:  # the rows were used; whoever audits them sees that this receipt is missing
                self.disputed = True
                self._peers.trace.failed("hop.receipt", peer=self.hop.peer_id.short, error=str(fault))

    async def _count(self, entry: Entry, reply: Result) -> None:
        """Keep the receipt that came with rows, or the rows until one comes. Raises ProtocolFault."""
        if entry.tensor.data.nbytes + reply.tensor.data.nbytes > INLINE_BYTES:
            digests = await asyncio.to_thread(hash_rows, entry.tensor, reply.tensor)
        else:
            digests = hash_rows(entry.tensor, reply.tensor)
        self._tally.add_digests(entry.position, *digests)
        while self.receipts and self.receipts[-1].stop > entry.position:
            self.receipts.pop()  # its last rows are computed anew
        if self._tally.due(entry.rows):
            self.receipts.append(self._tally.check(reply.receipt, self.hop.peer_id))
        elif reply.receipt is not None:
            raise ProtocolFault(f"peer {self.hop.peer_id.short} gave a receipt that is not due")

    @property
    def round_trip(self) -> float | None:
        """Seconds to the worker and back, as the channel measured; None if not yet."""
        return self._channel.round_trip

    def _noticed(self, load: Load) -> None:
        self.load = load
        self._peers.noticed(self.hop.peer_id, load)

    def _wait(self, step: int) -> Callable[[Working], None]:
        """For one request. Raises PeerStalled, into the request, when it is no longer worth waiting."""
        wait = BusyLimit(self.load.step_seconds, len(self.hop.span))
        loop = asyncio.get_running_loop()

        def working(said: Working) -> None:
            if said.waiting:
                if loop.time() - self._handed.get(step, math.inf) > EDGE_SECONDS:
                    raise EdgeFault(f"what was handed on to peer {self.hop.peer_id.short} did not come there")
                return
            if not wait.working(loop.time(), said.queue_rows, self._answered):
                raise PeerStalled(
                    f"peer {self.hop.peer_id.short} has said that it works for {wait.seconds:.0f} s, and nothing moved: "
                    f"{wait.limit:.0f} s can be explained"
                )

        return working

    async def _ask(self, message: Message, on_working: Callable[[Working], None] | None = None) -> Message:
        reply = await self._channel.request(message, on_working)
        self._used_at = asyncio.get_running_loop().time()
        return reply

    def _check(self, reply: Result, asked: Entry, step: int) -> None:
        answered = (reply.session_id, reply.step, reply.position, reply.rows, reply.tensor.dtype, reply.tensor.shape)
        tensor = asked.tensor
        if answered != (self._session_id, step, asked.position, asked.rows, tensor.dtype, tensor.shape):
            raise ProtocolFault(f"peer {self.hop.peer_id.short} answered another question than it was asked")
        if not is_finite(reply.tensor):
            raise ProtocolFault(f"peer {self.hop.peer_id.short} answered with rows that are not finite")
        if not same_ends(asked.tensor, reply.tensor, self._peers.carried):
            raise ProtocolFault(f"peer {self.hop.peer_id.short} changed what rows only carry")

    def __repr__(self) -> str:
        return f"<link to {self.hop.peer_id.short} for layers {self.hop.span}>"
