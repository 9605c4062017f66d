"""One node's side of the wire: answers requests, sends its own, keeps the routing table. The `kademlia` package's protocol,
with everything that touches a datagram replaced by one guarded synchronous path.

A contact enters the table only after an answer, signed by its key, from its address; and nobody is asked for one who has not
proven by a token that he receives there, so a forged source address draws no more than the answer to its own request. Knows
nothing of lookups, which are `crawl`'s.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections import Counter, OrderedDict
from collections.abc import Coroutine
from dataclasses import dataclass
from random import Random
from typing import Any, NoReturn

from kademlia.node import Node
from kademlia.protocol import KademliaProtocol

from swarm.discovery import packets
from swarm.discovery.addresses import Endpoint, pack_endpoint, reach
from swarm.discovery.clock import MAX_OFFSET, SwarmClock
from swarm.discovery.endpoint import Socket
from swarm.discovery.keys import distance, fingerprint, node_id
from swarm.discovery.packets import BadDatagram, Method, Request, Response
from swarm.discovery.routing_table import RoutingTable
from swarm.discovery.store import RecordStore
from swarm.identity import Identity, PeerId
from swarm.records import address_block
from swarm.trace import Trace

ANYBODY = b""  # the wanted id of a bootstrap address that has not answered yet
TRIES = 2  # a request is sent at most this often
MAX_TIMEOUT = 1.0  # seconds before the second try
LAST_WAIT = 0.75  # seconds at least before a node is given up: it may just be busy, and lookups pass it by meanwhile
LAST_ROUND_TRIPS, MAX_LAST_WAIT = 1.25, 4.0  # and so many round trips, up to so many seconds
MIN_SLACK = 0.05  # seconds a response may be later than the smoothed round trip
FIRST_ROUND_TRIP, FIRST_DEVIATION = 0.15, 0.05  # seconds, until one was measured
MAX_ERRANDS = 16  # introductions under way at once
MAX_TOKENS = 2048  # addresses whose token is kept
MAX_VOTES = 64  # hosts whose word about our own address is kept
TOKEN_SECONDS = 300.0  # a token is good for one to two of these


@dataclass(frozen=True, slots=True)
class Answer:
    """A verified response."""

    node: Node  # id proven by the signature, at the address that answered
    peer_id: PeerId
    data_port: int  # TCP port of bulk pages, or 0
    body: list[Any]  # unchecked


@dataclass(slots=True)
class _Pending:
    """A request under way."""

    to: Endpoint
    wanted: bytes  # node id that must sign, or ANYBODY
    done: asyncio.Future[tuple[int, Response]]  # which try was answered, and how


class RecordProtocol(KademliaProtocol):  # type: ignore[misc]  # the package is untyped
    """Requests and responses of one node. `passive`: neither answers nor wants to be listed."""

    def __init__(
        self,
        identity: Identity,
        store: RecordStore,
        k: int,
        passive: bool,
        data_port: int,
        clock: SwarmClock,
        random: Random,
        trace: Trace,
    ) -> None:
        super().__init__(Node(node_id(identity.peer_id)), store, k)
        self.identity, self.store, self.k, self.passive, self.data_port = identity, store, k, passive, data_port
        self.clock, self.random, self.trace = clock, random, trace
        self.router = RoutingTable(self.source_node, k, self._check_head)
        self.counters: Counter[str] = Counter()  # what arrived and what was refused; its names are fixed
        self.round_trip, self.deviation = FIRST_ROUND_TRIP, FIRST_DEVIATION  # seconds, smoothed (RFC 6298)
        self._measures = False  # whether those are more than a guess
        self._socket: Socket | None = None
        self._secret = random.randbytes(32)
        self._pending: dict[bytes, _Pending] = {}  # by their nonces, without the last byte
        self._tokens: OrderedDict[Endpoint, bytes] = OrderedDict()
        self._votes: OrderedDict[str, str] = OrderedDict()  # host of a responder -> our host as it sees us
        self._tasks: set[asyncio.Task[Any]] = set()
        self._errands: set[bytes] = set()  # ids being introduced

    def __getattr__(self, name: str) -> NoReturn:
        """In the package, a mistyped method is a remote call."""
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    # Datagrams

    def start(self, socket: Socket) -> None:
        self._socket = socket

    async def stop(self) -> None:
        """End everything under way."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None  # whoever asks on gets no answer
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def received(self, data: bytes, source: Endpoint) -> None:
        """Everything from the network comes through here."""
        try:
            asked, nonce = packets.kind_and_nonce(data)
            if asked:
                self._on_request(packets.parse_request(data, self.store.keyspace), source, len(data))
            else:
                self._on_response(nonce, data, source)
        except BadDatagram:
            self.counters["malformed"] += 1
        except Exception as error:  # a stranger's bytes must not end the only thing that hears the network
            self.counters["crashed"] += 1
            self.trace.failed("directory.datagram", error=repr(error))

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.received(data, (addr[0], addr[1]))

    def _on_request(self, request: Request, source: Endpoint, size: int) -> None:
        if self.passive or self._socket is None:
            self.counters["ignored"] += 1
            return
        token = self._token(source, 0)
        proven = hmac.compare_digest(request.token, token) or hmac.compare_digest(
            request.token, self._token(source, -1)
        )
        answer = self._serve(request, source, proven)
        out = packets.pack_response(
            request.nonce, self.identity, token, source, self.data_port, self.now(), answer, self.store.keyspace
        )
        if len(out) > min(packets.MAX_DATAGRAM, 3 * size):
            self.counters["too large"] += 1
            return
        self.counters["served"] += 1
        self._socket.send(out, source)
        if request.sender and proven:
            self._introduce(Node(request.sender, *source))

    def _serve(self, request: Request, source: Endpoint, proven: bool) -> list[Any]:
        match request.method:
            case Method.PING:
                return []
            case Method.FIND:
                return self.rpc_find(request.sender, *request.arguments)
            case Method.PAGE:
                return self.rpc_page(*request.arguments)
            case Method.STORE:
                return self.rpc_store_record(source, proven, *request.arguments)

    def _on_response(self, nonce: bytes, data: bytes, source: Endpoint) -> None:
        pending = self._pending.get(nonce[:-1])
        if pending is None or pending.done.done():
            self.counters["unasked"] += 1
            return
        signer = node_id(packets.signer_of(data))
        if source != pending.to or (pending.wanted and signer != pending.wanted):
            self.counters["not the asked"] += 1
            return
        response = packets.parse_response(data, self.store.keyspace)
        self._tokens[source] = response.token
        self._tokens.move_to_end(source)
        if len(self._tokens) > MAX_TOKENS:
            self._tokens.popitem(last=False)
        self._votes[source[0]] = response.asker[0]
        self._votes.move_to_end(source[0])
        if len(self._votes) > MAX_VOTES:
            self._votes.popitem(last=False)
        pending.done.set_result((nonce[-1], response))

    # What others ask (rpc_x) and what we ask them (call_x)

    def rpc_find(self, sender: bytes, key: bytes, wanted: int) -> list[Any]:
        nodes = [
            packets.pack_node(node.id, (node.ip, node.port))
            for node in self.router.closest(key, self.k, exclude=sender)
        ]
        now = self.now()
        room = packets.ANSWER_ROOM - sum(len(node) + packets.NODE_OVERHEAD for node in nodes)
        held = self.store.held(key, now) if wanted else []
        records = []
        for one in self.random.sample(held, min(len(held), packets.MAX_RECORDS)):  # every replica shows another part
            size = len(one.signed.raw) + packets.RECORD_OVERHEAD
            if size <= room:
                room -= size
                records.append(one.signed.raw)
        return [nodes, len(held), fingerprint(one.place for one in held), records]

    def rpc_page(self, key: bytes, after: bytes, until: bytes) -> list[Any]:
        records, last = self.store.after(key, self.now(), packets.ANSWER_ROOM, after, until)
        return [last, records]

    def rpc_store_record(self, source: Endpoint, proven: bool, key: bytes, raw: bytes) -> list[Any]:
        """Only a proven address may store, and only at nodes near the key."""
        near = self.router.closest(key, 2 * self.k)
        own = distance(self.source_node.id, key)
        far = len(near) == 2 * self.k and all(distance(node.id, key) < own for node in near)
        held = proven and not far and self.store.put(key, raw, self.now(), address_block(source[0]))
        self.counters["stored" if held else "refused"] += 1
        return [int(held)]

    async def call(
        self,
        to: Endpoint,
        wanted: bytes,
        method: Method,
        *arguments: Any,
        tries: int = TRIES,
        last_wait: float = LAST_WAIT,
    ) -> Answer | None:
        """Ask, once more if need be. None if `wanted` did not answer from there, or not with a valid signature.

        The last try is waited for `last_wait` seconds at least, and longer where all answers are known to take long.
        """
        socket = self._socket
        if socket is None:
            return None
        loop = asyncio.get_running_loop()
        name = self.random.randbytes(packets.NONCE_BYTES - 1)  # the last byte of the nonce counts the tries
        token = self._tokens.get(to, b"")
        sender = b"" if self.passive else self.source_node.id
        pending = self._pending[name] = _Pending(to, wanted, loop.create_future())
        sent = []
        try:
            for attempt in range(tries):
                request = Request(name + bytes([attempt]), method, sender, token, arguments)
                if not socket.send(packets.pack_request(request, self.store.keyspace), to):
                    self.counters["unsent"] += 1
                    return None  # our own link is down, or there is none of that kind: nobody else is to blame
                sent.append(loop.time())
                last = attempt == tries - 1
                seconds = self.timeout
                if last:
                    seconds = max(seconds, last_wait, min(LAST_ROUND_TRIPS * self.round_trip, MAX_LAST_WAIT))
                await asyncio.wait({pending.done}, timeout=seconds)
                if pending.done.done():
                    break
        finally:
            del self._pending[name]
        if not pending.done.done():
            if wanted:
                self.router.strike(Node(wanted, *to), loop.time())
            return None
        attempt, response = pending.done.result()
        if attempt < len(sent):
            self._measured(loop.time() - sent[attempt])
            self._hear_time(to, response.clock, sent[attempt])
        node = Node(node_id(response.peer_id), *to)
        self._welcome(node, proven=bool(token))
        return Answer(node, response.peer_id, response.data_port, response.answer)

    async def call_ping(self, node: Node) -> Answer | None:
        return await self.call((node.ip, node.port), node.id, Method.PING)

    # The routing table

    def _welcome(self, node: Node, proven: bool) -> None:
        """A node that answered. It may list us as well, once we prove our address."""
        known = self.router.is_known(node)
        self.router.add_contact(node)
        if not known and not proven and not self.passive and node.id != self.source_node.id:
            self._errand(node.id, self.call_ping(node))  # with the token that it has given us

    def _introduce(self, node: Node) -> None:
        """Somebody new, at a proven address, asked us something: ask it for a signature."""
        if node.id != self.source_node.id and not self.router.is_known(node):
            self._errand(node.id, self.call((node.ip, node.port), node.id, Method.PING))

    def _check_head(self, node: Node) -> None:
        """A bucket is full: is its oldest contact still there?"""
        self._errand(node.id, self.call_ping(node))

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task that ends with this protocol at the latest."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _errand(self, about: bytes, work: Coroutine[Any, Any, Any]) -> None:
        if about in self._errands or len(self._errands) >= MAX_ERRANDS:
            work.close()
            return
        self._errands.add(about)
        self.spawn(work).add_done_callback(lambda _: self._errands.discard(about))

    # Time and place

    def now(self) -> float:
        """Swarm time."""
        return self.clock.time()

    def _hear_time(self, source: Endpoint, said: float, asked: float) -> None:
        if self.clock.hear(source, said, asked):
            self.trace.complete("directory.clock", offset=round(self.clock.offset, 1))
        elif abs(said - self.now()) > MAX_OFFSET:
            self.counters["far clocks"] += 1
            if self.counters["far clocks"] == 1:
                self.trace.failed("directory.clock", error=f"{source[0]} is {said - self.now():+.0f} s from our time")

    def reaches(self, host: str) -> bool:
        return self._socket is not None and self._socket.reaches(host)

    @property
    def timeout(self) -> float:
        """Seconds to wait for an answer before asking again, or somebody else."""
        return min(MAX_TIMEOUT, self.round_trip + max(4 * self.deviation, MIN_SLACK))

    def _measured(self, seconds: float) -> None:
        """From the first try on, even if the second was answered: too long, but a slow link is then learned at all."""
        if not self._measures:
            self._measures, self.round_trip, self.deviation = True, seconds, seconds / 2
        self.deviation += 0.25 * (abs(seconds - self.round_trip) - self.deviation)
        self.round_trip += 0.125 * (seconds - self.round_trip)

    def _token(self, source: Endpoint, age: int) -> bytes:
        period = int(asyncio.get_running_loop().time() // TOKEN_SECONDS) + age
        proof = hmac.digest(
            self._secret, period.to_bytes(8, "big", signed=True) + pack_endpoint(source), hashlib.sha256
        )
        return proof[: packets.TOKEN_BYTES]

    def observed_host(self) -> str | None:
        """Our address as more than half of the responders see it, the global ones before those of the local network."""
        votes = Counter(self._votes.values())
        for least in (2, 0):
            inside = Counter({host: count for host, count in votes.items() if reach(host) >= least})
            host, count = max(inside.items(), key=lambda vote: vote[1], default=("", 0))
            if 2 * count > inside.total():
                return host
        return None

    def __repr__(self) -> str:
        contacts = sum(1 for _ in self.router.contacts())
        return f"RecordProtocol({contacts} contacts, {len(self._pending)} requests under way, {self.store!r})"
