"""One hop of a session: the worker's session on a channel, the inputs it was given, and how to bring a new one level.

A link asks and keeps; whom to ask instead when it fails is decided in `session`.
"""

from __future__ import annotations

import asyncio
import secrets

from swarm.client.hops.answers import check_answer
from swarm.client.hops.history import Entry, History, joined
from swarm.client.hops.line import Line
from swarm.client.hops.receipts import HopReceipts
from swarm.client.peers import Peers
from swarm.errors import Overloaded, PeerFault, ProtocolFault
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
    Open,
    Opened,
    Push,
    Renew,
    Result,
)
from swarm.wire.receipts import Receipt
from swarm.wire.rows import SESSION_ID_BYTES, Rows
from swarm.wire.tensors import Tensor
from swarm.wire.tickets import issue

CLOSE_SECONDS = 1.0  # for telling a worker that the session ended
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
        self._signed = HopReceipts(session_id, hop.span, model_digest, hop.numerics, hop.peer_id)
        self.disputed = False  # its last receipt, which came when the session had ended, does not fit
        self._line = Line(hop, channel, peers)
        self._peers = peers
        self._session_id = session_id
        self._asked_step = (
            self._taken_step
        ) = -1  # the last; unlike: what the worker answered, if it did, does not count in the receipts
        self._silent: tuple[int, int] | None = None  # the last step that it was not asked about, and how many rows
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
            reply = await link._line.ask(Open(session_id, model.digest, hop.span, precision, max_rows, *named))
        except asyncio.CancelledError:
            await link.close()  # the worker may have opened it by now, or may do so yet
            raise
        if not isinstance(reply, Opened) or reply.session_id != session_id:
            await link.close()
            raise ProtocolFault(f"peer {hop.peer_id.short} answered Open with {type(reply).__name__}")
        link.numerics = reply.numerics
        link._signed.computed_in(reply.numerics)
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

    @property
    def told(self) -> int:
        """Rows of which it is known what it was given and what it made of them."""
        return min(self.inputs.length, self._signed.rows)

    @property
    def receipts(self) -> list[Receipt]:
        """The worker's, of rows in order, none twice."""
        return self._signed.kept

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

    async def ask(self, entry: Entry, step: int, onward: int = 0, owed: int = 0) -> Result:
        """Give the worker these rows, and wait for what it makes of them; for so many hops it goes on by itself.

        The answer has so many decode rows before these, too. Raises PeerFault, Overloaded.
        """
        message = Forward(self._session_id, step, entry.position, entry.rows, entry.tensor, onward, owed)
        return await self._told(message, entry)

    async def expect(self, entry: Entry, step: int, owed: int = 0) -> Result:
        """The worker is to have such rows from the one before it. Raises PeerFault, Overloaded; EdgeFault if they do not come."""
        self._line.expected(step)
        try:
            return await self._told(Expect(self._session_id, step, owed), entry)
        finally:
            self._line.came(step)

    def push(self, entry: Entry, step: int, onward: int) -> None:
        """Give the worker these rows, which go on for so many hops, and wait for nothing. Raises PeerFault."""
        self._line.push(Push(self._session_id, step, entry.position, entry.rows, entry.tensor, onward, 0))

    def given(self, entry: Entry, step: int) -> None:
        """The worker gets such rows by a Push."""
        self._asks(entry, step)

    def _asks(self, entry: Entry, step: int) -> None:
        if self._asked_step != step:  # else it has them, and is asked again
            self._asked_step = step
            self._signed.roll_back(entry.position)
            self._peers.trace.started(
                "hop.forward", peer=self.hop.peer_id.short, position=entry.position, rows=entry.count
            )

    def silent(self, entry: Entry, step: int) -> None:
        """It was given such rows, and what it made of them is of use, whatever that is: see `settle`."""
        self._silent = step, entry.count
        self.rows = max(self.rows, entry.position + entry.count)
        self._complete(entry)

    @property
    def ended(self) -> asyncio.Future[PeerFault]:
        """Done once the connection to the worker is lost."""
        return self._line.channel.ended

    def handed(self, step: int) -> None:
        """The link before it has handed on the rows of a step."""
        self._line.handed(step)

    async def take(self, entry: Entry, step: int, reply: Result, after: History | None = None) -> Tensor:
        """What it made of these rows, which are as those it was given. Raises ProtocolFault.

        With `after`, what came of older rows: those that it did not tell yet are added, and count.
        """
        owed = 0 if after is None else entry.position - after.length
        self._check(reply, entry, step, owed)
        tensor = reply.tensor
        await self._count(entry, reply, after)
        if after is not None and owed:
            told = Entry(reply.rows, reply.position, tensor)
            after.append(told.head(owed))
            tensor = told.tail(owed).tensor
        self._taken_step = step
        self.rows = max(self.rows, entry.position + entry.count)
        self._noticed(reply.load)
        self._complete(entry)
        return tensor

    def take_first(self, entry: Entry, step: int, reply: Result) -> Tensor:
        """As `take`, before it is known what the worker was given; `entry` is what came of that, as far as its ends go.

        The rows do not count yet. Raises ProtocolFault.
        """
        self._check(reply, entry, step, 0)
        self._signed.early(entry.position, reply.receipt)
        self._noticed(reply.load)
        return reply.tensor

    async def settle(self, after: History, stop: int) -> None:
        """Have what the worker did not tell of its rows, up to `stop`, and let them count. `after`: what came of them.

        Raises PeerFault, Overloaded.
        """
        start = self._signed.rows
        if self._silent is None or start >= stop:
            return
        step, count = self._silent
        if after.length < stop:
            last = Entry(Rows.DECODE, stop - count, self.inputs.rows_at(stop - count, count))
            owed = last.position - after.length
            reply = await self._line.result(Expect(self._session_id, step, owed), self.load)
            self._check(reply, last, step, owed)
            await self._count(last, reply, after)
            after.append(Entry(reply.rows, reply.position, reply.tensor))
        else:
            inputs, outputs = (history.rows_at(start, stop - start) for history in (self.inputs, after))
            await self._signed.count(Rows.DECODE, start, inputs, outputs, None)
        self._taken_step = step

    def _complete(self, entry: Entry) -> None:
        self._peers.trace.complete(
            "hop.forward", peer=self.hop.peer_id.short, position=entry.position, rows=entry.count
        )

    async def connect(self, following: HopSession, epoch: int) -> None:
        """Let the worker hand its rows to another link's worker by itself. Raises PeerFault, Overloaded."""
        owner, hop = self._peers.identity, following.hop
        assert owner is not None
        ticket = issue(owner, following._session_id, epoch, self.hop.peer_id)
        places = tuple((address.host, address.data) for address in hop.addresses[:MAX_ADDRESSES])
        reply = await self._line.ask(
            Connect(self._session_id, epoch, following._session_id, hop.peer_id, places, ticket)
        )
        if reply != Connected(self._session_id, epoch):
            raise ProtocolFault(f"peer {self.hop.peer_id.short} answered Connect with {type(reply).__name__}")

    async def _told(self, message: Forward | Expect, entry: Entry) -> Result:
        traffic, peer_id = self._peers.traffic, self.hop.peer_id
        self._asks(entry, message.step)
        if entry.rows is Rows.CHUNK:
            traffic.chunk_began(peer_id)
        try:
            return await self._line.result(message, self.load)
        finally:
            if entry.rows is Rows.CHUNK:
                traffic.chunk_ended(peer_id, asyncio.get_running_loop().time())

    def shared(self, since: float) -> bool:
        """Whether a prompt of another session may have held up a decode row that was asked for then."""
        return self._peers.traffic.chunks_since(self.hop.peer_id, self.load.sessions, since)

    @property
    def patience(self) -> float:
        """Of sessions that all wait for each other's rows, one gives up first: from 0 to 1, by its name."""
        return int.from_bytes(self._session_id[:2], "big") / 0xFFFF

    async def renew(self, idle_seconds: float) -> None:
        """Keep the lease of a session that was idle for so long. A peer that fails is noticed when it is needed."""
        if asyncio.get_running_loop().time() - self._line.used_at < idle_seconds:
            return
        try:
            async with asyncio.timeout(RENEW_SECONDS):
                await self._line.ask(Renew(self._session_id))
        except (PeerFault, Overloaded, TimeoutError):
            self._line.used_at = asyncio.get_running_loop().time()

    async def rest(self) -> bool:
        """The session has ended and may be another's parent: whether the worker keeps it. Takes the last receipt."""
        self._uncount()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                reply = await self._line.ask(Renew(self._session_id, idle=True))
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
        self._line.channel = channel
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                reply = await self._line.ask(Close(self._session_id))
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
        self._signed.branch(parent._signed, self._session_id, rows, reply.receipt)

    def _take_last(self, receipt: Receipt | None) -> None:
        """Of the rows that have none, once the session has ended."""
        if self._asked_step == self._taken_step and not self.disputed:
            try:
                self._signed.end(receipt)
            except ProtocolFault as fault:  # the rows were used; whoever audits them sees that this receipt is missing
                self.dispute(fault)

    def dispute(self, fault: ProtocolFault) -> None:
        """A receipt that came when the session had ended does not fit."""
        self.disputed = True
        self._peers.trace.failed("hop.receipt", peer=self.hop.peer_id.short, error=str(fault))

    async def _count(self, entry: Entry, reply: Result, after: History | None) -> None:
        """Rows count once it is known what came of them, older ones first. Raises ProtocolFault."""
        start = entry.position if after is None else min(entry.position, self._signed.rows)
        given, made = entry.tensor, Entry(reply.rows, reply.position, reply.tensor)
        if start < entry.position:
            given = joined(self.inputs.rows_at(start, entry.position - start), given)
        if after is not None and start < made.position:
            outputs = joined(after.rows_at(start, made.position - start), made.tensor)
        else:
            outputs = made.tail(start - made.position).tensor
        await self._signed.count(entry.rows, start, given, outputs, reply.receipt)

    @property
    def round_trip(self) -> float | None:
        """Seconds to the worker and back, as the channel measured; None if not yet."""
        return self._line.channel.round_trip

    def _noticed(self, load: Load) -> None:
        self.load = load
        self._peers.noticed(self.hop.peer_id, load)

    def _check(self, reply: Result, asked: Entry, step: int, owed: int) -> None:
        """Whether it answers this step, rows before it included that are owed. Raises ProtocolFault."""
        given = joined(self.inputs.rows_at(asked.position - owed, owed), asked.tensor) if owed else asked.tensor
        question = Entry(asked.rows, asked.position - owed, given)
        check_answer(reply, self._session_id, step, question, self._peers.carried, self.hop.peer_id)

    def __repr__(self) -> str:
        return f"<link to {self.hop.peer_id.short} for layers {self.hop.span}>"
