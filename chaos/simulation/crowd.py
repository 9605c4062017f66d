"""Thousands of directories on one network, each with a record of its own, in virtual time.

Most of a large crowd has joined long ago when it begins: tables are filled as they would be by then, and only the last comers
join over the network. From then on every datagram is carried.
"""

from __future__ import annotations

import asyncio
import gc
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from functools import lru_cache
from random import Random
from typing import Any

from kademlia.node import Node

import swarm.records
from chaos.simulation.datagrams import UdpSwitch
from swarm.discovery import Directory
from swarm.discovery.keys import KEY_BYTES, node_id
from swarm.errors import Overloaded, PeerLost
from swarm.identity import Identity, PeerId
from swarm.records import ANNOUNCE_INTERVAL, RECORD_LIFETIME, Address, ModelRef, PeerRecord, PeerState
from swarm.span import LayerSpan

PORT = 7700
LAYERS = 80
MOST_LAYERS = 16  # that one worker holds
MODEL = ModelRef("large", b"\x05" * 32, LAYERS)
DELAY = 0.04  # seconds one way
LOSS = 0.01
JOINERS = 100  # peers that join over the network, at least
JOINED_AT_ONCE = 50
MAX_DECODED = 1 << 17  # records whose form was checked
STEPS = 5  # of which an announcement of all tells

Tell = Callable[[str], None]  # how far it is


@contextmanager
def economy() -> Iterator[None]:
    """A crowd is one process: a record that thousands hold is decoded once, and garbage is not looked for among so much."""
    decode, collecting = swarm.records._decode, gc.isenabled()
    vars(swarm.records)["_decode"] = lru_cache(MAX_DECODED)(decode)
    gc.disable()
    try:
        yield
    finally:
        vars(swarm.records)["_decode"] = decode
        if collecting:
            gc.enable()


class Crowd:
    """So many directories on one switch. `async with Crowd(...) as crowd: await crowd.grow()`."""

    def __init__(self, peers: int, seed: int) -> None:
        self.random = Random(seed)
        self.switch = UdpSwitch(seed, DELAY, LOSS)
        self.nodes: list[Directory] = []
        self.records: dict[PeerId, PeerRecord] = {}
        self._by_id: dict[PeerId, Directory] = {}
        self._peers = peers
        self._stack = AsyncExitStack()
        self._made = 0

    async def __aenter__(self) -> Crowd:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def start(self, passive: bool = False) -> Directory:
        """A peer that knows the first one."""
        self._made += 1
        host = f"10.{self._made >> 8 & 255}.{self._made & 255}.1"  # every one in a network of its own
        directory = Directory(
            Identity.from_seed(self._made.to_bytes(32, "big")),
            host=host,
            port=PORT,
            bootstrap=[(self.nodes[0].host, PORT)] if self.nodes else [],
            passive=passive,
            now=asyncio.get_running_loop().time,
            random=Random(self.random.random()),
            open_socket=self.switch.opener(host),
            fetch_page=self._fetch_page,
            data_port=PORT,
        )
        self._by_id[directory.identity.peer_id] = directory
        await self._stack.enter_async_context(directory)
        return directory

    async def _fetch_page(self, _: Address, peer_id: PeerId, key: bytes, offset: int) -> tuple[list[bytes], bool]:
        """As over TCP: a new connection is two round trips."""
        await asyncio.sleep(4 * DELAY)
        directory = self._by_id[peer_id]
        if directory.host in self.switch.cut_hosts:
            raise PeerLost(f"peer {peer_id.short} is gone")
        return directory.page(key, offset)

    async def grow(self) -> list[float]:
        """All are there afterwards; how long each of those took that joined over the network."""
        for _ in range(max(1, self._peers - JOINERS)):
            self.nodes.append(await self.start())
        fill_tables(self.nodes, self.random)
        seconds: list[float] = []

        async def one() -> None:
            began = now()
            joined = await self.start()
            await joined.join()
            self.nodes.append(joined)
            seconds.append(now() - began)

        while len(self.nodes) < self._peers:
            more = min(JOINED_AT_ONCE, len(self.nodes), self._peers - len(self.nodes))
            await asyncio.gather(*(one() for _ in range(more)))
        return seconds

    async def announce(self, nodes: Sequence[Directory], tell: Tell) -> int:
        """Each of them once, spread over one interval. How many the directory had no room for."""
        crowded = done = 0

        async def one(node: Directory) -> None:
            nonlocal crowded, done
            await asyncio.sleep(self.random.uniform(0.0, ANNOUNCE_INTERVAL))
            record = next_record(self.records.get(node.identity.peer_id), node.identity, node.host, self.random, now())
            self.records[record.peer_id] = record
            try:
                await node.announce(record.sign(node.identity))
            except Overloaded:
                crowded += 1
            done += 1
            if done * STEPS // len(nodes) > (done - 1) * STEPS // len(nodes):
                tell(f"announced: {done} of {len(nodes)}")

        await asyncio.gather(*map(one, nodes))
        return crowded

    def vanish(self, share: float) -> list[Directory]:
        """Without notice. The others."""
        gone = set(self.random.sample(range(1, len(self.nodes)), int(share * len(self.nodes))))
        for index in gone:
            self.switch.kill(self.nodes[index].host)
        return [node for index, node in enumerate(self.nodes) if index not in gone]


def fill_tables(nodes: Sequence[Directory], random: Random) -> None:
    """Let each know some of every subtree of ids, as after a long life: all of the smallest, a bucket's worth of the others."""
    known = sorted((Node(node_id(one.identity.peer_id), one.host, PORT) for one in nodes), key=_long_id)
    for directory in nodes:
        router: Any = directory._server.protocol.router  # nothing but a harness would fill it from outside
        own, bits = router.node.long_id, 8 * KEY_BYTES
        start, stop = 0, len(known)
        for bit in range(bits - 1, -1, -1):
            if stop - start <= 1:
                break
            middle = bisect_left(known, (own >> bit | 1) << bit, start, stop, key=_long_id)
            near, far = ((middle, stop), (start, middle)) if own >> bit & 1 else ((start, middle), (middle, stop))
            start, stop = near
            size = far[1] - far[0]
            for place in random.sample(range(*far), min(size, directory.config.k)):
                router.add_contact(known[place])


def _long_id(node: Node) -> int:
    number: int = node.long_id
    return number


def now() -> float:
    return asyncio.get_running_loop().time()


def next_record(old: PeerRecord | None, who: Identity, host: str, random: Random, now: float) -> PeerRecord:
    """A worker's announcement: of layers drawn at its first one, the same from then on."""
    if old is not None:
        return old.again(old.sequence + 1, now + RECORD_LIFETIME)
    length = random.randint(2, MOST_LAYERS)
    start = min(max(0, random.randrange(LAYERS) - length // 2), LAYERS - length)  # the ends are as well held
    return PeerRecord(
        peer_id=who.peer_id,
        addresses=(Address.of(host, PORT),),
        model=MODEL,
        span=LayerSpan(start, start + length),
        state=PeerState.SERVING,
        precision="bf16",
        device="cpu",
        memory_total=1 << 34,
        memory_free=1 << 33,
        numerics="bf16 cpu",
        uplink=None,
        downlink=None,
        tokens_per_second=random.uniform(5.0, 200.0),
        cache_tokens_free=4096,
        sequence=1,
        expires_at=now + RECORD_LIFETIME,
    )
