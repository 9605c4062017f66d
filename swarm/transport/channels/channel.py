"""A channel: the one connection between two peers, with many requests under way in both directions.

The only meeting point of `wire.connection` (which knows no sockets) and a `Stream` (which knows no messages). A peer that
dies, stalls or breaks the rules surfaces here, as a PeerFault on every request that it leaves unanswered. Knows nothing
of sessions or models.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from swarm.config import ChannelConfig
from swarm.errors import Overloaded, PeerFault, PeerLost, PeerStalled, ProtocolFault, VersionMismatch
from swarm.trace import Trace
from swarm.transport.base import Stream
from swarm.transport.channels.liveness import TICK_SECONDS, Liveness, Sight, Verdict
from swarm.transport.channels.requests import Requests
from swarm.transport.channels.responses import Exchange, Handler, Responses
from swarm.transport.channels.sender import Sender
from swarm.transport.channels.stalled_transfers import Progress
from swarm.wire.connection import CONTROL, Connection, Role
from swarm.wire.events import Answered, Asked, Event, Greeted, Parting, Pinged, Ponged, Pushed, Violated
from swarm.wire.frames import Frame
from swarm.wire.messages import Forward, Goodbye, Hello, Load, Message, Ping, Pong, Push, Result, Working
from swarm.wire.rows import Rows
from swarm.wire.tensors import RAW

__all__ = ["Channel", "Exchange", "Handler", "Terms"]

AGENT = "swarm"
FLUSH_SECONDS = 1.0  # how long `aclose` waits for what is still to be sent
PING_SECONDS = 10.0  # a request after so long without a Ping brings one along, to keep `round_trip` fresh


@dataclass(frozen=True, slots=True)
class Terms:
    """What a channel needs to know beside its stream; the same for all channels of a service."""

    config: ChannelConfig
    trace: Trace
    handler: Handler | None = None  # of the peer's requests; without one they are refused
    load: Callable[[], Load] | None = None  # said in every Pong
    on_held: Callable[[Channel, int], None] | None = None  # bytes held for a peer's sake, more or fewer
    on_close: Callable[[Channel], None] | None = None
    agent: str = AGENT
    on_goodbye: Callable[[Channel, Goodbye], None] | None = None
    on_push: Callable[[Channel, Push], None] | None = None  # raises nothing; without one, pushed rows are dropped


class Channel:
    """Made by `dial.dial` or a `ChannelServer`; ready once `greeted()` returns."""

    def __init__(self, stream: Stream, role: Role, terms: Terms) -> None:
        self.peer_id = stream.peer_id
        self.host = stream.host
        self.remote = stream.remote
        self.closed = False
        self.bytes_received = 0
        self.held_bytes = 0  # the peer's requests, arrived in part or being served, and what it has not read yet
        self.load: Load | None = None  # as the peer's last Pong said
        self._stream = stream
        self._terms = terms
        self._config = terms.config
        self._loop = asyncio.get_running_loop()
        self._connection = Connection(role, terms.agent, terms.config.piece_bytes)
        self._sender = Sender(stream, terms.config, self._new_ping, self.hold)
        self._responses = Responses(self, terms.handler, terms.trace)
        self._liveness = Liveness(terms.config)
        self._ticking = False
        self._requests = Requests(stream.peer_id)
        self._hello: asyncio.Future[Hello] = self._loop.create_future()
        self._ended: asyncio.Future[PeerFault] = self._loop.create_future()
        self._gone = asyncio.Event()  # the stream made its last call

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        counts = f"asking={len(self._requests)}, serving={len(self._responses)}"
        return f"Channel({self.peer_id.short} at {self.remote}, {state}, {counts}, {self._sender.flow_control!r})"

    @property
    def round_trip(self) -> float | None:
        """Seconds, smoothed; None before the first Pong."""
        return self._sender.flow_control.round_trip

    @property
    def rate(self) -> float | None:
        """Bytes per second that this machine could send, as observed; None while nothing had to wait."""
        return self._sender.flow_control.rate

    @property
    def unfinished_bytes(self) -> int:
        """Of the peer's messages that have not arrived whole."""
        return self._connection.held_bytes

    @property
    def progress(self) -> Progress:
        """Of what the peer sends."""
        wire = self._connection
        return Progress(self.bytes_received, wire.in_frame, wire.frames, wire.in_message, wire.messages)

    def start(self) -> None:
        """Say Hello and listen. The peer's Hello is awaited for `connect_seconds` at most."""
        self._sender.push(self._connection.hello())
        self._stream.start(self)
        self._loop.call_later(self._config.connect_seconds, self._check_greeted)

    async def greeted(self) -> Hello:
        """The peer's Hello. Raises PeerLost, ProtocolFault, VersionMismatch."""
        return await asyncio.shield(self._hello)

    async def request(self, message: Message, on_working: Callable[[Working], None] | None = None) -> Message:
        """Ask, and wait for the reply as long as the peer shows signs of life. `on_working` hears of every Working.

        Raises PeerLost, PeerStalled, ProtocolFault; what a Fault reply stands for (`wire.faults.error_of`); Overloaded
        when too much is under way to this peer. Cancelling forgets the request; the peer may still carry it out.
        """
        await self.room()
        if self.closed:
            raise self._fault()
        if self._connection.unanswered >= self._config.max_streams:
            raise Overloaded(f"{self._connection.unanswered} requests to peer {self.peer_id.short} are unanswered")
        stream = self._connection.new_stream()
        frames = self._connection.send(stream, message, self._codec(message))
        reply = self._requests.begin(stream, on_working)
        if self._loop.time() - self._sender.pinged_at > PING_SECONDS and not self._sender.ping_out:
            self._sender.ping()
        self._sender.push(frames, in_turn=isinstance(message, Forward) and message.rows is Rows.CHUNK)
        if not self._ticking:
            self._ticking = True
            self._liveness.start(self._sight())
            self._loop.call_later(TICK_SECONDS, self._tick)
        try:
            return await reply
        finally:
            del reply  # an exception holds this frame, and would be held by it
            self._requests.forget(stream)

    @property
    def crowded(self) -> bool:
        """Whether whoever has more to send must wait."""
        return self._sender.crowded

    def push(self, message: Push) -> None:
        """Send what needs no answer. Raises PeerLost and the like once the channel is closed, LocalFault."""
        if self.closed:
            raise self._fault()
        frames = self._connection.send(self._connection.new_stream(), message, self._codec(message))
        self._sender.push(frames, in_turn=message.rows is Rows.CHUNK)

    async def room(self) -> None:
        """Wait while this channel is crowded."""
        while self._sender.crowded and not self.closed:
            await self._sender.room()

    @property
    def ended(self) -> asyncio.Future[PeerFault]:
        """Done once the channel is closed. Not to be cancelled: see `wait_closed`."""
        return self._ended

    def ping(self) -> None:
        """Have the peer say anew how busy it is: `load` and `round_trip` are fresh by the reply to what is asked next."""
        if not self.closed and not self._sender.ping_out:
            self._sender.ping()

    def part(self, goodbye: Goodbye) -> None:
        """Say that this side will leave. Does nothing before the Hello, once the channel is closed, or if nobody reads."""
        if self._hello.done() and not self.closed and not self._sender.flooded:
            self._sender.push(self._connection.send(CONTROL, goodbye))

    async def reply(self, stream: int, message: Message) -> None:
        """Answer a request of the peer. Does nothing once the channel is closed. Raises LocalFault."""
        await self.room()
        if not self.closed:
            self._sender.push(self._connection.send(stream, message, self._codec(message)))

    def tell(self, stream: int, working: Working) -> None:
        """Say that a request of the peer is under way. Does nothing once the channel is closed, or if it never reads."""
        if not self.closed and not self._sender.flooded:
            self._sender.push(self._connection.send(stream, working))

    def hold(self, change: int) -> None:
        """So many bytes more (or fewer) are in this machine's memory for the peer's sake."""
        if change:
            self.held_bytes += change
            if self._terms.on_held is not None:
                self._terms.on_held(self, change)

    def abort(self, reason: str) -> None:
        """End the channel at once; requests under way raise PeerLost with this reason."""
        self._end(PeerLost(f"the channel to peer {self.peer_id.short} at {self.remote} was given up: {reason}"))

    async def aclose(self) -> None:
        """End the channel after what is queued was sent. Requests being served here are cancelled first."""
        await self.stop_serving()
        with contextlib.suppress(TimeoutError):  # a peer that does not read gets what it got
            async with asyncio.timeout(FLUSH_SECONDS):
                await self._sender.room(0)
        self._end(PeerLost(f"the channel to peer {self.peer_id.short} was closed here"), gently=True)
        try:  # a loop that ends before the stream does would leave its socket open
            async with asyncio.timeout(FLUSH_SECONDS):
                await self._gone.wait()
        except TimeoutError:
            self._stream.abort()

    async def stop_serving(self) -> None:
        """Cancel what is being served here, and wait for it to end, but not for long."""
        await self._responses.cancel(FLUSH_SECONDS)

    async def wait_closed(self) -> PeerFault:
        """Why the channel ended, once it has."""
        return await asyncio.shield(self._ended)

    def data_received(self, data: memoryview) -> None:
        """The stream's: parse, then act."""
        if self.closed:
            return
        self.bytes_received += len(data)
        before = self._connection.held_bytes
        events = self._connection.receive_data(data)
        self.hold(self._connection.held_bytes - before)
        if events and isinstance(events[-1], Violated):  # the connection is closed: nothing can be answered any more
            events = [event for event in events if isinstance(event, Answered | Violated)]
        for event in events:
            if not self.closed:
                self._handle(event)

    def writing_resumed(self) -> None:
        """The stream's."""
        self._sender.pump()

    def connection_lost(self, reason: str) -> None:
        """The stream's."""
        self._gone.set()
        self._end(PeerLost(f"the connection to peer {self.peer_id.short} at {self.remote} ended: {reason}"))

    def _handle(self, event: Event) -> None:
        match event:
            case Answered(stream, message, ends):
                self._requests.answered(stream, message, ends)
            case Asked(stream, message):
                self._responses.begin(stream, message)
            case Pushed(push):
                if self._terms.on_push is not None:
                    self._terms.on_push(self, push)
            case Pinged():
                self._pong()
            case Ponged(pong):
                self.load = pong.load
                self._sender.ponged()
                self._requests.ponged(arriving=self._connection.in_message)
            case Parting(goodbye):
                if self._terms.on_goodbye is not None:
                    self._terms.on_goodbye(self, goodbye)
            case Greeted(hello):
                self._hello.set_result(hello)
                self._sender.ping()
            case Violated(fault):
                # a peer of another version shall still read our Hello
                self._end(fault, gently=isinstance(fault, VersionMismatch))

    def _new_ping(self) -> list[Frame]:
        self._requests.pinged(behind_all=not self._sender.waiting)
        return self._connection.send(CONTROL, Ping())

    def _pong(self) -> None:
        if self._sender.flooded:
            self._end(ProtocolFault(f"peer {self.peer_id.short} at {self.remote} pings more often than it reads"))
        else:
            load = self._terms.load() if self._terms.load is not None else None
            self._sender.push(self._connection.send(CONTROL, Pong(load)))

    def _codec(self, message: Message) -> str:
        if not isinstance(message, Forward | Push | Result) or not self._hello.done():
            return RAW
        return self._sender.flow_control.codec(message.tensor.data.nbytes, self._hello.result().codecs)

    def _sight(self) -> Sight:
        sender = self._sender
        return Sight(
            now=self._loop.time(),
            received=self.bytes_received,
            left=sender.left,
            pending=sender.pending,
            ping_out=sender.ping_out,
            ping_left=sender.ping_left,
            round_trip=sender.flow_control.round_trip,
        )

    def _tick(self) -> None:
        if self.closed or not len(self._requests):
            self._ticking = False
            return
        verdict = self._liveness.tick(self._sight())
        if verdict is Verdict.STALLED:
            what = f"{len(self._requests)} requests" if len(self._requests) > 1 else "a request"
            silence = f"sent nothing for {self._liveness.silent:.1f} s with {what} under way"
            self._end(PeerStalled(f"peer {self.peer_id.short} at {self.remote} {silence}"))
            return
        if verdict is Verdict.PING or (self._requests.wants_ping() and not self._sender.ping_out):
            self._sender.ping()
        self._loop.call_later(TICK_SECONDS, self._tick)

    def _check_greeted(self) -> None:
        if not self._hello.done():
            self._end(PeerLost(f"peer {self.peer_id.short} at {self.remote} proved its key but never said Hello"))

    def _fault(self) -> PeerFault:
        """A fresh copy of why the channel ended, for one more asker."""
        fault = self._ended.result()
        return type(fault)(str(fault))

    def _end(self, fault: PeerFault, gently: bool = False) -> None:
        if self.closed:
            return
        self.hold(-self._connection.held_bytes)
        self._sender.stop()
        self.closed = True
        self._connection.close()
        if gently:
            self._stream.close()
        else:
            self._stream.abort()
        self._ended.set_result(fault)
        if not self._hello.done():
            self._hello.set_exception(self._fault())
            self._hello.exception()  # marked as seen: perhaps nobody waits for it
        self._requests.fail(self._fault)
        self._terms.trace.complete("channel.closed", peer=self.peer_id.short, reason=str(fault))
        if self._terms.on_close is not None:
            self._terms.on_close(self)
