"""A network inside one process, with faults: what tests and simulations run the real channels over.

Deterministic: bytes arrive in the order in which they were written, on the event loop's clock alone. `kill` breaks a peer's
streams as the death of its process does; `freeze` stops its bytes in both directions as SIGSTOP does, and `thaw` lets
what was queued arrive; `cut` and `heal` do the same to one pair, or to one direction of it. `damage` ends a peer's streams as a
flipped bit does, which TLS notices. A link may have latency and a rate, and a peer may be `slowed`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from swarm.errors import PeerLost, PortInUse
from swarm.identity import PeerId
from swarm.records import Address
from swarm.transport.base import Buffer, Receiver, Stream

WINDOW_BYTES = 128 << 10  # under way in one direction before the sender has to wait
SEGMENT_BYTES = 4 << 10  # on a link with a rate, bytes arrive in such steps
FIRST_PORT = 20000
CLOCK_STEP = 1e-9  # seconds; timers fire up to this much early


class MemoryNetwork:
    """The hub that all peers of a test hang on: `hub.node(peer_id)` is one peer's `Network`."""

    def __init__(self, *, latency: float = 0.0, rate: float | None = None) -> None:
        self.latency = latency  # seconds one way, of links made from now on
        self.rate = rate  # bytes per second and direction, of links made from now on; None: no limit
        self._nodes: dict[PeerId, MemoryNode] = {}
        self._ports: _Ports = {}
        self._frozen: set[PeerId] = set()
        self._cut: set[tuple[PeerId, PeerId]] = set()  # from whom no byte comes to whom
        self.slowed: dict[PeerId, float] = {}  # seconds that bytes from or to a peer are under way beyond the latency
        self._made = 0
        self.pipes: dict[_Pipe, None] = {}  # those that still carry something, in the order in which they were made
        self._changed = asyncio.Event()  # replaced at every change of who can reach whom

    def node(self, peer_id: PeerId, host: str | None = None) -> MemoryNode:
        """The peer's network; a new one if it was killed. `host` is that of a new one."""
        node = self._nodes.get(peer_id)
        if node is None or node.dead:
            self._made += 1
            given = f"10.{self._made >> 16 & 255}.{self._made >> 8 & 255}.{self._made & 255}"
            node = self._nodes[peer_id] = MemoryNode(self, peer_id, host or given)
        return node

    def kill(self, peer_id: PeerId) -> None:
        """Break all its streams and close its ports. What it had sent still arrives, then the far ends see the loss."""
        node = self._nodes[peer_id]
        node.dead = True
        self._frozen.discard(peer_id)
        for place in [place for place, (owner, _) in self._ports.items() if owner is node]:
            del self._ports[place]
        for stream in tuple(node.streams):
            stream.end("the process ended", "connection reset by peer")
        self._release()

    def freeze(self, peer_id: PeerId) -> None:
        """Its bytes stop in both directions; nothing breaks."""
        self._frozen.add(peer_id)

    def thaw(self, peer_id: PeerId) -> None:
        """What was queued arrives."""
        self._frozen.discard(peer_id)
        self._release()

    def cut(self, one: PeerId, other: PeerId, *, both: bool = True) -> None:
        """Bytes between the two stop (or only those from the one to the other), and even a death is not noticed across."""
        self._cut.add((one, other))
        if both:
            self._cut.add((other, one))

    def heal(self, one: PeerId, other: PeerId) -> None:
        self._cut -= {(one, other), (other, one)}
        self._release()

    def damage(self, peer_id: PeerId, keep: float) -> None:
        """Of what a peer has sent and is under way, this part arrives (0 to 1), then its streams end, on both sides."""
        for stream in tuple(self._nodes[peer_id].streams):
            stream.outgoing.truncate(keep)
            stream.end("bad record MAC", "bad record MAC")

    def open_between(self, source: PeerId, target: PeerId) -> bool:
        """Whether bytes come from the one to the other."""
        return not (source in self._frozen or target in self._frozen or (source, target) in self._cut)

    def extra_seconds(self, one: PeerId, other: PeerId) -> float:
        return self.slowed.get(one, 0.0) + self.slowed.get(other, 0.0) if self.slowed else 0.0

    def _release(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        for pipe in tuple(self.pipes):
            pipe.arm()

    async def connect(
        self, caller: MemoryNode, address: Address, expect: PeerId, reached: Callable[[], None]
    ) -> Stream:
        place = (address.host, address.data)
        while True:
            owner, on_stream = self._ports.get(place, (None, None))
            if caller.dead or owner is None or on_stream is None:
                raise PeerLost(f"{address} refuses connections")
            if self.open_between(caller.peer_id, owner.peer_id) and self.open_between(owner.peer_id, caller.peer_id):
                break
            await self._changed.wait()
        await asyncio.sleep(2 * (self.latency + self.extra_seconds(caller.peer_id, owner.peer_id)))
        if owner.dead or self._ports.get(place) != (owner, on_stream):
            raise PeerLost(f"{address} refuses connections")
        reached()
        if owner.peer_id != expect:
            raise PeerLost(f"{address} proves to be peer {owner.peer_id.short}, not {expect.short}")
        near, far = MemoryStream(caller, owner, str(address)), MemoryStream(owner, caller, f"{caller.host}:0")
        near.outgoing, far.outgoing = _Pipe(self, near, far), _Pipe(self, far, near)
        on_stream(far)
        return near

    def listen(self, node: MemoryNode, port: int, on_stream: Callable[[Stream], None]) -> MemoryListener:
        if port == 0:
            node.last_port += 1
            port = node.last_port
        if (node.host, port) in self._ports:
            raise PortInUse(f"port {port} of {node.host} is in use")
        self._ports[node.host, port] = (node, on_stream)
        return MemoryListener(self._ports, node.host, port)


_Ports = dict[tuple[str, int], tuple["MemoryNode", Callable[[Stream], None]]]  # (host, port): who listens


class MemoryNode:
    """One peer's `Network`. Its host is its own, whatever host it is told to listen on."""

    def __init__(self, hub: MemoryNetwork, peer_id: PeerId, host: str) -> None:
        self._hub = hub
        self.peer_id = peer_id
        self.host = host
        self.dead = False
        self.last_port = FIRST_PORT
        self.streams: dict[MemoryStream, None] = {}  # in the order in which they were made

    def address(self, port: int) -> Address:
        """Where others reach it."""
        return Address.of(self.host, port)

    async def connect(self, address: Address, expect: PeerId, reached: Callable[[], None] = lambda: None) -> Stream:
        return await self._hub.connect(self, address, expect, reached)

    async def listen(self, host: str, port: int, on_stream: Callable[[Stream], None]) -> MemoryListener:
        return self._hub.listen(self, port, on_stream)

    def __repr__(self) -> str:
        return f"MemoryNode({self.peer_id.short}, {self.host}, streams={len(self.streams)}, dead={self.dead})"


class MemoryListener:
    """An open port of a node."""

    def __init__(self, ports: _Ports, host: str, port: int) -> None:
        self._ports = ports
        self._host = host
        self.port = port

    async def aclose(self) -> None:
        self._ports.pop((self._host, self.port), None)


class MemoryStream:
    """One end of a connection."""

    outgoing: _Pipe

    def __init__(self, node: MemoryNode, peer: MemoryNode, remote: str) -> None:
        self.peer_id = peer.peer_id
        self.host = peer.host
        self.remote = remote
        self.node = node
        self.ended = False
        self._receiver: Receiver | None = None
        self._early: list[bytes] | None = []  # came before there was a receiver; None from then on
        self._lost: str | None = None  # why it ended, while nobody listened
        node.streams[self] = None

    @property
    def full(self) -> bool:
        return self.outgoing.bytes >= WINDOW_BYTES

    @property
    def unsent(self) -> int:
        return self.outgoing.bytes

    def start(self, receiver: Receiver) -> None:
        self._receiver = receiver
        asyncio.get_running_loop().call_soon(self._catch_up)

    def write(self, buffers: Sequence[Buffer]) -> None:
        if not self.ended:
            self.outgoing.write(b"".join(buffers))

    def close(self) -> None:
        self.end("closed here", "it closed the connection")

    def abort(self) -> None:
        self.end("closed here", "connection reset by peer")

    def end(self, reason_here: str, reason_there: str) -> None:
        """This end is gone; the far end learns it behind the bytes that are under way."""
        if not self.ended:
            self.ended = True
            self.outgoing.finish(reason_there)
            asyncio.get_running_loop().call_soon(self.lose, reason_here)

    def deliver(self, data: bytes) -> None:
        if self._early is not None:
            self._early.append(data)
        elif not self.ended and self._receiver is not None:
            self._receiver.data_received(memoryview(data))

    def resume(self) -> None:
        if self._early is None and not self.ended and self._receiver is not None:
            self._receiver.writing_resumed()

    def lose(self, reason: str) -> None:
        """The last thing that happens to this end."""
        self.node.streams.pop(self, None)
        if not self.ended:
            self.ended = True
            self.outgoing.finish("it closed the connection")
        if self._lost is None:
            self._lost = reason
            if self._early is None and self._receiver is not None:
                self._receiver.connection_lost(reason)

    def _catch_up(self) -> None:
        """Hand over what came before there was a receiver."""
        assert self._receiver is not None
        early, self._early = self._early, None
        for data in early or ():
            self._receiver.data_received(memoryview(data))
        if self._lost is not None:
            self._receiver.connection_lost(self._lost)


class _Pipe:
    """The bytes under way in one direction, each step with the time of its arrival; the last step may be the end."""

    def __init__(self, hub: MemoryNetwork, source: MemoryStream, target: MemoryStream) -> None:
        self._hub = hub
        self._source = source
        self._target = target
        self._latency = hub.latency
        self._rate = hub.rate
        self._free_at = 0.0  # when the link will have sent what was written so far
        self._queue: deque[tuple[float, bytes, str | None]] = deque()  # arrival, bytes, reason of the end
        self._timer: asyncio.Handle | None = None
        self._finished = False
        self.bytes = 0  # under way
        hub.pipes[self] = None

    def write(self, data: bytes) -> None:
        self.bytes += len(data)
        now = asyncio.get_running_loop().time()
        if self._rate is None:
            self._append(now, data, None)
        else:
            self._free_at = max(self._free_at, now)
            for start in range(0, len(data), SEGMENT_BYTES):
                segment = data[start : start + SEGMENT_BYTES]
                self._free_at += len(segment) / self._rate
                self._append(self._free_at, segment, None)
        self.arm()

    def finish(self, reason: str) -> None:
        if not self._finished:
            self._finished = True
            now = asyncio.get_running_loop().time()
            self._append(max(self._free_at, now), b"", reason)
            self.arm()

    def truncate(self, keep: float) -> None:
        """Only this part of what is under way will arrive, in the order in which it was written."""
        room = int(self.bytes * keep)
        queue, self._queue = self._queue, deque()
        for arrival, data, end in queue:
            self._queue.append((arrival, data[:room], end))
            room -= min(room, len(data))
        self.bytes = sum(len(data) for _, data, _ in self._queue)

    def _append(self, sent_at: float, data: bytes, end: str | None) -> None:
        """No step overtakes another, though delays change."""
        extra = self._hub.extra_seconds(self._source.node.peer_id, self._target.node.peer_id)
        arrival = sent_at + self._latency + extra
        if self._queue:
            arrival = max(arrival, self._queue[-1][0])
        self._queue.append((arrival, data, end))

    def arm(self) -> None:
        """Set the timer of the next arrival, if anything can arrive."""
        if not self._queue or self._timer is not None or not self._open():
            return
        loop = asyncio.get_running_loop()
        arrival = self._queue[0][0]
        if arrival > loop.time() + CLOCK_STEP:
            self._timer = loop.call_at(arrival, self._arrive)
        else:
            self._timer = loop.call_soon(self._arrive)

    def _open(self) -> bool:
        return self._hub.open_between(self._source.node.peer_id, self._target.node.peer_id)

    def _arrive(self) -> None:
        self._timer = None
        if not self._open():
            return
        was_full = self.bytes >= WINDOW_BYTES
        now = asyncio.get_running_loop().time() + CLOCK_STEP
        due, end = [], None
        while self._queue and self._queue[0][0] <= now:
            _, data, end = self._queue.popleft()
            due.append(data)
        data = b"".join(due)
        self.bytes -= len(data)
        if data:
            self._target.deliver(data)
        if was_full and self.bytes < WINDOW_BYTES:
            self._source.resume()
        if end is not None:
            self._hub.pipes.pop(self, None)
            self._target.lose(end)
        else:
            self.arm()
