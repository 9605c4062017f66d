"""One frozen dataclass per service: every bound, interval and limit by name; addresses as text. No environment, no I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from swarm.errors import UsageFault
from swarm.precision import NO_WISHES, Wishes
from swarm.span import MAX_LAYERS, LayerSpan

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

DEFAULT_PORT = 7700  # TCP data and UDP directory; the probe is on the next one


def parse_address(text: str) -> tuple[str, int]:
    """`HOST:PORT`, `[V6]:PORT` or `HOST` (then the default port). Raises UsageFault."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^\s\[\]:,]+))(?::(\d{1,5}))?", text.strip())
    port = int(match[3] or DEFAULT_PORT) if match else 0
    if match is None or not 0 < port < 1 << 16:
        raise UsageFault(
            f"'{text}' is no address: write HOST:PORT, such as 192.0.2.7:{DEFAULT_PORT} or [2001:db8::7]:7700"
        )
    return match[1] or match[2], port


def parse_addresses(given: str | Sequence[str | tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    """Addresses as text or as pairs; one text is one address. Raises UsageFault."""
    several = (given,) if isinstance(given, str) else given
    return tuple(parse_address(each) if isinstance(each, str) else each for each in several)


@dataclass(frozen=True, slots=True)
class DirectoryConfig:
    """The DHT. `k` and `alpha` as in Maymounkov and Mazieres, Kademlia (2002), sections 2.1 and 2.3."""

    k: int = 8  # contacts per bucket of the routing table, replicas of a record
    alpha: int = 4  # requests of one lookup under way at once
    lookup_seconds: float = 8.0  # a lookup gives what it has by then
    refresh_seconds: float = 60.0  # between two refreshes of the routing table
    knock_seconds: float = (
        6.0  # between two signs of life to a bootstrap, which may have been started anew and know nobody
    )
    rejoin_seconds: float = 3.0  # between two attempts to find back while no contact answers
    keep_seconds: float = 60.0  # between two writings of the known peers to disk
    max_records_per_key: int = 512
    max_records: int = 16384  # in all; a record counts once for every key it is held under
    max_keys_per_peer: int = 64


@dataclass(frozen=True, slots=True)
class ChannelConfig:
    """A connection between two peers."""

    connect_seconds: float = 4.0  # TCP, TLS and both Hellos; more where the first round trip is long
    heartbeat_seconds: float = 0.5  # a Ping after this long without a byte received while something is outstanding
    silence_seconds: float = (
        3.0  # no byte for this long (plus eight round trips) while something is outstanding: stalled
    )
    silence_cap_seconds: float = 4.5  # however slow the link, silence is noticed by then
    piece_bytes: int = 64 * KIB  # large bodies travel in pieces, so that a small message never waits for a large one
    max_outbox_bytes: int = 256 * MIB  # queued to one peer; beyond it the sender waits
    max_streams: int = 4096  # requests under way on one channel
    max_channels: int = 1024  # that a server takes; about 40 KiB each
    max_channels_per_peer: int = 16
    block_share: float = (
        0.875  # part of a server's channels that one address block may hold while nobody else wants any
    )
    max_held_bytes: int = 512 * MIB  # for all peers of a server: their requests, and replies that they have not read
    max_unfinished_bytes: int = 48 * MIB  # of those, in messages that have not arrived whole
    handshake_seconds: float = 4.0  # from TCP's handshake to the end of TLS's
    max_handshakes: int = 512  # begun and unfinished, silent ones too
    early_bytes_per_second: int = 32 * KIB  # that one address block may send before it has proved a key
    early_burst_bytes: int = MIB  # that it may have saved up: a crowd behind one router that comes all at once
    frame_seconds: float = 10.0  # header, body or message that has begun: grace, and from then on the least rate counts
    min_frame_rate: int = 4 * KIB  # bytes per second


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """Sessions and batching of one worker."""

    lease_seconds: float = 60.0  # an idle session is dropped after this long
    orphan_seconds: float = 3.0  # a session whose owner's last connection ended is dropped after this long
    max_sessions: int = 1024
    max_queue_rows: int = 32768  # rows waiting for the compute thread
    peer_share: float = 0.75  # part of sessions, cache and queue that one peer may hold while nobody else wants any
    block_share: float = 0.875  # and all peers of one address block together
    working_seconds: float = 0.5  # between two Working replies to a request that is still queued or computed
    drain_seconds: float = 30.0  # SIGTERM: how long running sessions may still use the worker
    move_seconds: float = 8.0  # the same where others hold all its layers; containers are given ten
    successor_seconds: float = (
        120.0  # and how long who alone holds layers waits for somebody to take them; 0: not at all
    )
    region: str | None = None  # a tag that others may choose by
    max_clients: int | None = None  # peers that have sessions here at once; None: any number
    move_every: float = 60.0  # between two looks whether other layers need the worker more; 0: it stays where it is
    claim_seconds: float = 2.0  # after a move was claimed, for others who claim the same layers
    look_again_seconds: float = 0.5  # after a choice of layers was announced, for others who chose meanwhile
    cache_bytes: int | None = None  # budget of all caches; None: what --max-memory leaves


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """Sessions of a client."""

    deadline_seconds: float = 120.0  # without progress, a request ends with an error after this long
    open_seconds: float = 15.0  # a first chain that does not exist yet is waited for this long
    retry_seconds: float = 0.25  # between two looks for a chain while layers are missing
    suspicion_seconds: float = 30.0  # a peer that failed is avoided for this long, if there is another
    max_history_bytes: int = 2 * GIB  # inputs kept for replay, one session
    replay_rows: int = 256  # decode rows per message in a replay
    renew_seconds: float = 20.0  # between two renewals of an idle session's leases
    max_kept: int = 16  # sessions that have ended, whose rows others may begin with; 0: nobody begins with others' rows
    max_kept_bytes: int = 512 * MIB  # of inputs of those, for replays
    kept_seconds: float = 600.0  # after their last use
    probe_count: int = 3  # probes per candidate; the least round trip counts
    probe_seconds: float = 0.5  # how long to wait for them
    max_candidates: int = 64  # peers probed for one chain
    exact: bool = False  # all workers of a chain in one numerics class, or no answer
    numerics: str | None = None  # with `exact`: that class; None: whichever serves all layers
    direct: bool = True  # workers hand rows to each other, where they can; else all go by the client
    shortest: bool = (
        False  # of all chains the one of least predicted time; else the greedy rule's, if that takes little longer
    )
    standby: bool = (
        False  # for each worker of a session another computes the same rows, so that a failover replays next to none
    )
    regions: tuple[str, ...] = ()  # workers of chains name one of them as theirs; empty: anywhere
    max_latency: float | None = None  # seconds of a round trip to a worker at most
    audit_share: float = 0.05  # of sessions: of those, a span is computed again by another worker afterwards
    audit_private: bool = False  # workers at private addresses may audit each other, as if each had another owner
    audit_seconds: float = 120.0  # without progress, an audit is given up after this long


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """One daemon: where it listens, whom it knows."""

    host: str = "::"  # numeric address to listen on; "::" is every address, v4 and v6
    port: int = DEFAULT_PORT  # TCP data and UDP directory; 0: any free one
    probe_port: int | None = None  # UDP probes; None: the next port
    public_host: str | None = None  # numeric address that others are told; None: found out
    bootstrap: tuple[tuple[str, int], ...] = ()  # host names or addresses with the directory's port
    public_port: int | None = None  # that others are told, the probe's being the next; None: those listened on
    swarm_key: bytes | None = field(default=None, repr=False)  # secret of a private swarm; None: the open swarm
    allow: frozenset[bytes] | None = None  # ids of the peers that are served; None: everybody
    wait_seconds: float = 0.0  # for bootstraps that are not up yet
    known_peers: Path | None = None  # file of peers that answered, for the day when no bootstrap does; None: none


@dataclass(frozen=True, slots=True)
class SpanConfig:
    """What a worker serves."""

    model: Path  # directory in the Hugging Face layout
    layers: LayerSpan | None = None  # None: what the swarm lacks most, as much as fits
    precision: str = "auto"  # or a plan, as of `swarm.precision`
    device: str = "auto"
    max_memory: int | None = None  # bytes; None: what is free, less a reserve
    backend: str = "swarm"  # who computes: our own engine, or "transformers"
    numerics: str = "auto"  # whose kernels: "portable", the same bits on every CPU, "native", or whichever can
    most_layers: int = MAX_LAYERS  # that a worker takes which chooses for itself
    wishes: Wishes = NO_WISHES  # what the plan says besides precisions of weights


@dataclass(frozen=True, slots=True)
class AskConfig:
    """Which model a client asks, and how."""

    model: str | Path  # directory in the Hugging Face layout, or a name in models_dir
    models_dir: Path | None = None
    precision: str | None = None  # None: whichever the chain has
    chain: tuple[bytes, ...] = ()  # peer ids of a chain by hand; empty: automatic
    device: str = "cpu"  # of embedding and head
    bans: Path | None = None  # file of peers that lied; None: remembered while the client runs
    backend: str = "swarm"  # as of `SpanConfig`


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """Where programs ask over HTTP, and for which models."""

    host: str = "127.0.0.1"  # numeric address; others than loopback need a key
    port: int = 8080  # 0: any free one
    keys: tuple[str, ...] = ()  # API keys, any of which lets in; empty: everybody who reaches it
    origins: tuple[str, ...] = ()  # web pages of other hosts that may ask; "*" is any
    models: tuple[Path, ...] = ()  # directories of models whose files are here; one that cannot be read is left out
    named: tuple[Path, ...] = ()  # those among them that must be there
    device: str = "cpu"  # of embeddings and heads
    backend: str = "swarm"  # as of `SpanConfig`
    numerics: str = "auto"  # likewise, of models that are computed here
    bans: Path | None = None  # as of `AskConfig`
    option: str = "--api"  # by which the port was chosen
    special_tokens: bool = False  # whether names of control tokens in messages become these tokens
