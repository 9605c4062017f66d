"""What peers say to each other over a channel: one frozen dataclass per message. Knows nothing of bytes on a socket.

A request carries a stream id chosen by its sender (in the frame, not here); every reply to it travels on the same
stream. `Working` may precede the one reply that ends a request.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from swarm.span import LayerSpan
from swarm.wire.receipts import Receipt
from swarm.wire.rows import Rows
from swarm.wire.tensors import Tensor

PROTOCOL_VERSION = 4  # 3 hands no rows from worker to worker
MAX_ADDRESSES = 8  # of a peer that another is told to dial
MAX_DETAIL_BYTES = 1024
MAX_PAGE_RECORDS = 256


class FaultCode(IntEnum):
    """Why a request was not served."""

    BAD_REQUEST = 1  # malformed or against the rules: the sender is to blame
    WRONG_MODEL = 2  # the worker serves another model, span or precision
    UNKNOWN_SESSION = 3  # never opened here, lapsed, or another peer's
    GAP = 4  # the position is beyond what the session holds
    OVERLOADED = 5  # cache budget or queue used up; see retry_after
    DRAINING = 6  # takes no new sessions
    INTERNAL = 7  # a bug or broken state at the worker
    NOT_ALLOWED = 8  # it serves named peers only, and the sender is none of them


@dataclass(frozen=True, slots=True)
class Hello:
    """First message of either side. Another version is answered with an error that names both."""

    version: int
    agent: str  # such as "swarm 0.1.0"
    codecs: tuple[str, ...]  # tensor codecs this side can decode, beside "raw"


@dataclass(frozen=True, slots=True)
class Load:
    """How busy a worker is, said in every reply."""

    queue_rows: int  # rows waiting for the compute thread
    sessions: int
    cache_tokens_free: int  # rows that the cache budget still takes
    step_seconds: float  # recent time of one decode step through the whole span, queueing included; 0 if none yet


@dataclass(frozen=True, slots=True)
class Ping:
    """Keep-alive; answered at once by the event loop, whatever the compute thread does."""


@dataclass(frozen=True, slots=True)
class Pong:
    load: Load | None  # None from peers that compute nothing


@dataclass(frozen=True, slots=True)
class Goodbye:
    """Its sender takes no new sessions and will leave. Needs no answer."""

    sequence: int  # of its records: what it announced up to this one counts no more


@dataclass(frozen=True, slots=True)
class Open:
    """Start a session. Only the peer that opened it may use it. Opening it again empties it.

    With a parent, another session of the same owner over the same layers, it begins with a copy of that one's first rows.
    """

    session_id: bytes  # 16 bytes, random
    model_digest: bytes  # 32 bytes
    span: LayerSpan  # layers wanted; within the worker's own span
    precision: str
    max_rows: (
        int  # the session's cache is reserved for this many rows, or refused; it grows with rows beyond, if it can
    )
    parent: bytes | None = None
    parent_rows: int = 0  # in native numerics whole chunks, computed as chunks. Fewer may be had: see Opened


@dataclass(frozen=True, slots=True)
class Opened:
    session_id: bytes
    lease_seconds: float
    numerics: str
    load: Load
    position: int = 0  # of the next row: those before it are there
    receipt: Receipt | None = None  # for the rows of a parent; or, once the session is idle, for those without one


@dataclass(frozen=True, slots=True)
class Forward:
    """Take rows through the session's layers. `(session_id, step)` is idempotent."""

    session_id: bytes
    step: int  # grows by one with every new Forward of the session on this hop; repeated when a reply was lost
    position: int  # of the first row; smaller than the worker's own rolls back, larger is a GAP
    rows: Rows
    tensor: Tensor  # [rows, hidden]
    onward: int = 0  # how many hops what comes of them goes on by itself, along edges that were made by Connect
    owed: int = 0  # decode rows before these that were pushed and not told: the Result has them, too


@dataclass(frozen=True, slots=True)
class Push:
    """As Forward, and nobody waits: what comes of the rows, errors too, hears whoever expects them. Needs no answer."""

    session_id: bytes
    step: int
    position: int
    rows: Rows
    tensor: Tensor  # [rows, hidden]
    onward: int
    epoch: (
        int  # from a predecessor: of the edge that they come by, those of an older one are dropped. From the owner: 0
    )


@dataclass(frozen=True, slots=True)
class Expect:
    """The owner's: rows are pushed, or were. Answered as a Forward that brings them would be."""

    session_id: bytes
    step: int
    owed: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    session_id: bytes
    step: int
    position: int  # of the first row
    rows: Rows
    tensor: Tensor  # [rows, hidden], those that were owed first
    load: Load
    receipt: Receipt | None = None  # for all rows without one, once due: after a chunk or RECEIPT_ROWS decode rows
    onward: bool = False  # the rows were handed to the next hop, too


@dataclass(frozen=True, slots=True)
class Working:
    """The request is queued or being computed; silence means death."""

    session_id: bytes
    step: int
    queue_rows: int
    waiting: bool = False  # nothing is: rows are expected and have not come


@dataclass(frozen=True, slots=True)
class Connect:
    """What comes out of a session may be handed on to another worker's session, until the next Connect. Answered with Connected,
    once that worker has let us in."""

    session_id: bytes
    epoch: int  # of the edge, as the ticket says
    next_session: bytes
    next_peer: bytes
    addresses: tuple[tuple[str, int], ...]  # where it takes channels
    ticket: bytes  # for the next worker, see `wire.tickets`


@dataclass(frozen=True, slots=True)
class Attach:
    """A worker's, to the next: it is the predecessor of a session. Answered with Connected."""

    session_id: bytes  # the asked worker's
    epoch: int
    ticket: bytes  # by the session's owner


@dataclass(frozen=True, slots=True)
class Connected:
    session_id: bytes
    epoch: int


@dataclass(frozen=True, slots=True)
class Renew:
    """Keep a session's lease. Answered with Opened."""

    session_id: bytes
    idle: bool = False  # it takes no more rows, and may be dropped for another's sake; until then it may be a parent


@dataclass(frozen=True, slots=True)
class Close:
    """End a session and free its cache. Answered with Closed, also when it is unknown."""

    session_id: bytes


@dataclass(frozen=True, slots=True)
class Closed:
    session_id: bytes
    receipt: Receipt | None = None  # for the rows without one, if there are any


@dataclass(frozen=True, slots=True)
class Fault:
    """The reply to a request that cannot be served."""

    session_id: bytes | None
    code: FaultCode
    detail: str  # for a person; at most MAX_DETAIL_BYTES
    retry_after: float | None  # seconds, with OVERLOADED; None: waiting is of no use


@dataclass(frozen=True, slots=True)
class FetchRecords:
    """A page of the directory's records under one key, over TCP where datagrams would be too many."""

    key: bytes  # 20 bytes
    offset: int


@dataclass(frozen=True, slots=True)
class RecordsPage:
    records: tuple[bytes, ...]  # signed records, at most MAX_PAGE_RECORDS
    more: bool


@dataclass(frozen=True, slots=True)
class DialBack:
    """Try to reach the sender at the host that this came from, and tell whether that worked. Answered with DialledBack."""

    data: int  # TCP port
    probe: int  # UDP port; 0: none


@dataclass(frozen=True, slots=True)
class DialledBack:
    host: str  # that the request came from, as this peer sees it
    fault: str  # what became of the connection, in words; empty if the sender proved its key there
    probed: bool  # whether the UDP port answered


Message = (
    Hello
    | Ping
    | Pong
    | Goodbye
    | Open
    | Opened
    | Forward
    | Push
    | Expect
    | Result
    | Working
    | Renew
    | Close
    | Closed
    | Fault
    | FetchRecords
    | RecordsPage
    | Connect
    | Attach
    | Connected
    | DialBack
    | DialledBack
)
