"""One conversation between two peers, without any I/O: bytes in, events out; messages in, frames out.

Two kinds of error say whose fault it is. What we may not send raises LocalFault from `send`; what the peer may not send
is the last event of `receive_data`, a `Violated` with a ProtocolFault or VersionMismatch, and nothing is read after it.
Knows nothing of sockets, clocks or keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from swarm.errors import LocalFault, ProtocolFault, VersionMismatch
from swarm.wire import frames, packing
from swarm.wire.events import Answered, Asked, Event, Greeted, Parting, Pinged, Ponged, Pushed, Violated
from swarm.wire.frames import Frame, FrameHeader
from swarm.wire.messages import (
    PROTOCOL_VERSION,
    Attach,
    Close,
    Closed,
    Connect,
    Connected,
    DialBack,
    DialledBack,
    Expect,
    Fault,
    FetchRecords,
    Forward,
    Goodbye,
    Hello,
    Message,
    Open,
    Opened,
    Ping,
    Pong,
    Push,
    RecordsPage,
    Renew,
    Result,
    Working,
)
from swarm.wire.packing import Draft
from swarm.wire.tensors import CODECS, RAW, Buffer

MAX_PARTIAL_BYTES = 2 * packing.MAX_BODY_BYTES  # declared bodies of messages that have not arrived whole
MAX_STREAMS = 4096  # requests of one side under way
CONTROL = 0  # the stream of Hello, Ping, Pong and Goodbye


class Role(Enum):
    """Who dialled. The dialler's requests have odd stream ids, the listener's even ones."""

    DIALLER = 1
    LISTENER = 2


class State(Enum):
    HELLO_WAIT = "hello-wait"  # nothing but a Hello may come
    OPEN = "open"
    CLOSED = "closed"  # by `close`, or because the peer broke the rules


# A connection is two machines, one for what we send and one for what the peer sends; each starts in HELLO_WAIT and
# moves by its own Hello alone. A machine takes what its row names and nothing else:
#
#     HELLO_WAIT  Hello                                     -> OPEN
#     OPEN        Ping, Pong, Goodbye, a request, a reply   -> OPEN
#     CLOSED      nothing
#
# Besides, each stream is a small machine. It is born with a request of the side that owns its parity, stays while
# Working comes, and dies with the one reply that ends it; its id may then be used again. A Push has no reply: its stream
# dies with it.
#
#     (none)      a Push                                    -> (none)
#     (none)      a request                                 -> ASKED
#     ASKED       Working, if the request allows it         -> ASKED
#     ASKED       a reply that the request allows           -> (none)
#
# ANSWERS holds the second table: for each request, what may answer it, and whether that ends the stream.

ANSWERS: dict[type[Message], dict[type[Message], bool]] = {
    Open: {Opened: True, Fault: True},
    Forward: {Working: False, Result: True, Fault: True},
    Push: {},
    Expect: {Working: False, Result: True, Fault: True},
    Connect: {Connected: True, Fault: True},
    Attach: {Connected: True, Fault: True},
    Renew: {Opened: True, Fault: True},
    Close: {Closed: True, Fault: True},
    FetchRecords: {RecordsPage: True, Fault: True},
    DialBack: {DialledBack: True, Fault: True},
}

_ALLOWED: dict[State, frozenset[type[Message]]] = {
    State.HELLO_WAIT: frozenset({Hello}),
    State.OPEN: frozenset({Ping, Pong, Goodbye}).union(ANSWERS, *ANSWERS.values()),
    State.CLOSED: frozenset(),
}

_CONTROL_MESSAGES = frozenset({Hello, Ping, Pong, Goodbye})


@dataclass(slots=True)
class _Partial:
    """A message whose frames have not all arrived. Its buffer grows with what arrives, not with what was promised."""

    kind: int
    draft: Draft
    body: bytearray


class Connection:
    """See the tables above."""

    def __init__(self, role: Role, agent: str, piece_bytes: int, codecs: tuple[str, ...] = CODECS) -> None:
        self.role = role
        self.ours = State.HELLO_WAIT
        self.theirs = State.HELLO_WAIT
        self._hello = Hello(PROTOCOL_VERSION, agent, codecs)
        self._piece_bytes = piece_bytes
        self._next_stream = 1 if role is Role.DIALLER else 2
        self._our_requests: dict[int, type[Message]] = {}  # stream: what we asked
        self._their_requests: dict[int, type[Message]] = {}  # stream: what they asked
        self._pings = 0  # of ours, unanswered
        self._head = bytearray()  # of the frame being received: header, then metadata
        self._header: FrameHeader | None = None  # once its bytes are here
        self._partial: _Partial | None = None  # that the frame being received belongs to
        self._body_left = 0  # bytes of that frame's body still to come
        self._partials: dict[int, _Partial] = {}  # stream: message that goes on in another frame
        self._declared_bytes = 0  # by all of those
        self.held_bytes = 0  # of bodies that have not arrived whole
        self.frames = 0  # that the peer sent whole
        self.messages = 0  # of several frames, that it sent whole

    def __repr__(self) -> str:
        return (
            f"Connection({self.role.name.lower()}, ours={self.ours.value}, theirs={self.theirs.value}, "
            f"asked={len(self._our_requests)}, serving={len(self._their_requests)})"
        )

    @property
    def unanswered(self) -> int:
        """Our requests that have no reply yet, Pings aside."""
        return len(self._our_requests)

    @property
    def in_frame(self) -> bool:
        """Whether the peer has begun a frame and not ended it."""
        return bool(self._head) or self._header is not None

    @property
    def in_message(self) -> bool:
        """Whether it owes further frames of a message."""
        return bool(self._partials)

    def hello(self) -> list[Frame]:
        """The frames of our Hello, the first thing to send."""
        return self.send(CONTROL, self._hello)

    def new_stream(self) -> int:
        """An id for a request or a Push of ours. Raises LocalFault when MAX_STREAMS are unanswered."""
        if len(self._our_requests) >= MAX_STREAMS:
            raise LocalFault(f"{MAX_STREAMS} requests to one peer are unanswered: no more can be asked")
        stream = self._next_stream
        self._next_stream += 2
        return stream

    def send(self, stream: int, message: Message, codec: str = RAW) -> list[Frame]:
        """The frames of a message, to be sent in this order. Raises LocalFault for what the tables forbid."""
        sort = type(message)
        if sort not in _ALLOWED[self.ours]:
            raise LocalFault(f"a {sort.__name__} cannot be sent while our side is {self.ours.value}")
        if (sort in _CONTROL_MESSAGES) != (stream == CONTROL):
            raise LocalFault(f"a {sort.__name__} cannot be sent on stream {stream}")
        kind, metadata, body = packing.pack_message(message, codec)
        built = frames.build(kind, stream, metadata, body, self._piece_bytes)
        if sort is Hello:
            self.ours = State.OPEN
        elif sort is Ping:
            self._pings += 1
        elif sort in ANSWERS:
            if stream in self._our_requests or stream % 2 != self._own_parity:
                raise LocalFault(f"a {sort.__name__} cannot be sent on stream {stream}: take a new one")
            if ANSWERS[sort]:
                self._our_requests[stream] = sort
        elif sort not in _CONTROL_MESSAGES:
            asked = self._their_requests.get(stream)
            if asked is None or sort not in ANSWERS[asked]:
                raise LocalFault(f"a {sort.__name__} answers nothing that the peer asked on stream {stream}")
            if ANSWERS[asked][sort]:
                del self._their_requests[stream]
        return built

    def close(self) -> None:
        """Nothing more is sent or read."""
        self.ours = self.theirs = State.CLOSED
        self._partials.clear()
        self._partial = None
        self._declared_bytes = self.held_bytes = 0

    def receive_data(self, data: Buffer) -> list[Event]:
        """What these bytes complete, however they were cut. They are copied or consumed before this returns."""
        events: list[Event] = []
        view = memoryview(data)
        try:
            while view and self.theirs is not State.CLOSED:
                view = self._take_head(view) if self._header is None else self._take_body(view)
                if self._header is not None and self._body_left == 0:
                    self._end_frame(events)
        except (ProtocolFault, VersionMismatch) as fault:
            self.close()
            events.append(Violated(fault))
        return events

    @property
    def _own_parity(self) -> int:
        return 1 if self.role is Role.DIALLER else 0

    def _take_head(self, view: memoryview) -> memoryview:
        """Gather header and metadata; once both are here, begin the frame."""
        head = self._head
        if len(head) < frames.HEADER_BYTES:
            missing = frames.HEADER_BYTES - len(head)
            head += view[:missing]
            view = view[missing:]
            if len(head) < frames.HEADER_BYTES:
                return view
        header = FrameHeader.parse(head)
        self._check_order(header)
        missing = frames.HEADER_BYTES + header.metadata_bytes - len(head)
        head += view[:missing]
        if len(head) == frames.HEADER_BYTES + header.metadata_bytes:
            self._begin_frame(header, memoryview(bytes(head))[frames.HEADER_BYTES :])
            head.clear()
        return view[missing:]

    def _check_order(self, header: FrameHeader) -> None:
        """What the header alone says about the tables, before anything else is taken in."""
        sort = packing.message_type_of(header.kind)
        if sort not in _ALLOWED[self.theirs]:
            raise ProtocolFault(f"a {sort.__name__} came while the peer's side is {self.theirs.value}")
        if (sort in _CONTROL_MESSAGES) != (header.stream == CONTROL):
            raise ProtocolFault(f"a {sort.__name__} on stream {header.stream}")

    def _begin_frame(self, header: FrameHeader, metadata: memoryview) -> None:
        partial = self._partials.get(header.stream)
        if partial is None:
            partial = self._begin_message(header, metadata)
        elif partial.kind != header.kind or metadata:
            raise ProtocolFault(f"another message on stream {header.stream} before the last one was whole")
        room = partial.draft.body_bytes - len(partial.body)
        if (
            header.body_bytes > room
            or (header.body_bytes == room) == header.more
            or (header.more and not header.body_bytes)
        ):
            raise ProtocolFault(
                f"a {partial.draft.message_type.__name__} declares {partial.draft.body_bytes} bytes of body and sends "
                f"{'more' if header.body_bytes >= room else 'fewer'}"
            )
        if header.more and header.stream not in self._partials:
            self._declared_bytes += partial.draft.body_bytes
            if self._declared_bytes > MAX_PARTIAL_BYTES:
                raise ProtocolFault(f"unfinished messages of {self._declared_bytes} bytes exceed {MAX_PARTIAL_BYTES}")
            self._partials[header.stream] = partial
        self._header, self._partial, self._body_left = header, partial, header.body_bytes

    def _begin_message(self, header: FrameHeader, metadata: memoryview) -> _Partial:
        """The first frame of a message: may it come at all?"""
        sort = packing.message_type_of(header.kind)
        if sort is Hello:
            version = packing.parse_version(metadata)
            if version != PROTOCOL_VERSION:
                older = "peer" if version < PROTOCOL_VERSION else "software here"
                both = f"the peer speaks version {version} of the protocol, we speak {PROTOCOL_VERSION}"
                raise VersionMismatch(f"{both}: upgrade the {older}")
        elif sort in ANSWERS:
            if header.stream % 2 == self._own_parity or header.stream in self._their_requests:
                raise ProtocolFault(f"a {sort.__name__} on stream {header.stream}, which is in use or not the peer's")
            if len(self._their_requests) + len(self._partials) >= MAX_STREAMS:
                raise ProtocolFault(f"more than {MAX_STREAMS} requests at once")
        elif sort not in _CONTROL_MESSAGES:
            asked = self._our_requests.get(header.stream)
            if asked is None or sort not in ANSWERS[asked]:
                raise ProtocolFault(f"a {sort.__name__} that answers nothing we asked on stream {header.stream}")
        return _Partial(header.kind, packing.parse_metadata(header.kind, metadata), bytearray())

    def _take_body(self, view: memoryview) -> memoryview:
        assert self._partial is not None
        taken = view[: self._body_left]
        self._partial.body += taken
        self._body_left -= len(taken)
        self.held_bytes += len(taken)
        return view[len(taken) :]

    def _end_frame(self, events: list[Event]) -> None:
        header, partial = self._header, self._partial
        assert header is not None
        assert partial is not None
        self._header = self._partial = None
        self.frames += 1
        if header.more:
            return
        if self._partials.pop(header.stream, None) is not None:
            self.messages += 1
            self._declared_bytes -= partial.draft.body_bytes
        self.held_bytes -= len(partial.body)
        events.append(self._event(header.stream, partial.draft.finish(partial.body)))

    def _event(self, stream: int, message: Message) -> Event:
        """A whole message, and what it does to the tables."""
        sort = type(message)
        if isinstance(message, Hello):
            self.theirs = State.OPEN
            return Greeted(message)
        if isinstance(message, Ping):
            return Pinged()
        if isinstance(message, Pong):
            if not self._pings:
                raise ProtocolFault("a Pong that answers no Ping")
            self._pings -= 1
            return Ponged(message)
        if isinstance(message, Goodbye):
            return Parting(message)
        if isinstance(message, Push):
            return Pushed(message)
        if sort in ANSWERS:
            self._their_requests[stream] = sort
            return Asked(stream, message)
        ends = ANSWERS[self._our_requests[stream]][sort]
        if ends:
            del self._our_requests[stream]
        return Answered(stream, message, ends)
