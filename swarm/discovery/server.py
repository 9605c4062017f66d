"""One node of the DHT: the `kademlia` package's `Server`, with its lookups, stores and upkeep replaced. Knows nothing of models.

What the package would answer from one unsigned copy, or read from a pickle, is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import NoReturn

from kademlia.network import Server
from kademlia.node import Node

from swarm.config import DirectoryConfig
from swarm.discovery.addresses import Endpoint
from swarm.discovery.clock import SwarmClock
from swarm.discovery.crawl import crawl
from swarm.discovery.endpoint import OpenSocket
from swarm.discovery.keys import KEY_BYTES, Keyspace, distance
from swarm.discovery.packets import Method
from swarm.discovery.peer_file import KnownPeer
from swarm.discovery.protocol import ANYBODY, LAST_WAIT, Answer, RecordProtocol
from swarm.discovery.record_lookup import FetchPage, RecordLookup
from swarm.discovery.routing_table import ID_BITS
from swarm.discovery.store import RecordStore, Verifier
from swarm.identity import Identity
from swarm.records import SignedRecord
from swarm.trace import Trace

MAX_SEEDS = 64  # bootstrap addresses asked at once
REFRESH_SEEDS = 3  # of them asked in a refresh while others are known too
SUBTREE_CONTACTS = 3  # a subtree is looked into when fewer of its nodes are known
MAX_LEVELS = 16  # subtrees looked into at once
START_FACTOR = 3  # a crawl starts from this many times k contacts: it asks the nearest, the others are in reserve
HELD = [1]  # the answer to STORE


@dataclass(frozen=True, slots=True)
class Published:
    """What became of a record under one key."""

    held: int  # nodes that hold it, ourselves included where we are one of them
    refused: int  # nodes that answered and do not


class RecordServer(Server):  # type: ignore[misc]  # the package is untyped
    """Finds nodes, publishes and collects records. `seeds` are bootstrap addresses, asked when nobody else answers."""

    def __init__(
        self,
        identity: Identity,
        config: DirectoryConfig,
        *,
        passive: bool,
        data_port: int,
        clock: SwarmClock,
        random: Random,
        trace: Trace,
        keyspace: Keyspace,
    ) -> None:
        store = RecordStore(config, Verifier(), random.randbytes(32), keyspace)
        protocol = RecordProtocol(identity, store, config.k, passive, data_port, clock, random, trace)
        super().__init__(config.k, config.alpha, protocol.source_node.id, store)
        self.config, self.protocol, self.storage, self.random = config, protocol, store, random
        self.seeds: list[Endpoint] = []

    async def listen(self, open_socket: OpenSocket, host: str, port: int) -> int:
        """The port that it became. Raises what `open_socket` raises."""
        socket = await open_socket(self.protocol, host, port)
        self.protocol.start(socket)
        return socket.port

    async def close(self) -> None:
        await self.protocol.stop()

    @property
    def contacts(self) -> int:
        """Known nodes that answered when last asked."""
        return sum(map(len, self.protocol.router.buckets)) - len(self.protocol.router.suspects())

    async def ask_seeds(self, most: int = MAX_SEEDS, *, last_wait: float = LAST_WAIT) -> list[Node]:
        """Ping bootstrap addresses, and where lost contacts were; who answers within about `last_wait` seconds, whatever its
        id is now."""
        addresses = [*self.seeds[:MAX_SEEDS], *self.protocol.router.lost]
        chosen = addresses if len(addresses) <= most else self.random.sample(addresses, most)
        answers = await asyncio.gather(
            *(self.protocol.call(to, ANYBODY, Method.PING, last_wait=last_wait) for to in dict.fromkeys(chosen))
        )
        return [answer.node for answer in answers if answer]

    async def ask_known(self, peers: Iterable[KnownPeer]) -> list[Node]:
        """Ping peers of earlier days; who still is who he was."""
        answers = await asyncio.gather(
            *(self.protocol.call(peer.endpoint, peer.node, Method.PING) for peer in list(peers)[:MAX_SEEDS])
        )
        return [answer.node for answer in answers if answer]

    def steady(self) -> list[tuple[bytes, Endpoint]]:
        """Contacts that answered when last asked."""
        router = self.protocol.router
        suspects = {node.id for node in router.suspects()}
        return [(node.id, (node.ip, node.port)) for node in router.contacts() if node.id not in suspects]

    async def knock(self) -> None:
        """Make ourselves known to one bootstrap address: its node may have been started anew and know nobody."""
        for node in await self.ask_seeds(1):
            await self.protocol.call_ping(node)  # with the token that its present life has given us

    async def bootstrap(self, start: Iterable[Node]) -> list[Answer]:
        """Find our own neighbourhood, and be found by it; then look into every subtree of which we know little (section 2.3)."""
        answers = await self._crawl(self.node.id, list(start))
        thin = self.protocol.router.thin_levels(SUBTREE_CONTACTS)[:MAX_LEVELS]
        await asyncio.gather(*(self._crawl(self._in_subtree(level), []) for level in thin))
        return answers

    def _in_subtree(self, level: int) -> bytes:
        """A random id that shares just `level` leading bits with ours."""
        bit = ID_BITS - 1 - level
        number: int = self.node.long_id ^ (1 << bit) ^ self.random.getrandbits(bit)
        return number.to_bytes(KEY_BYTES, "big")

    async def refresh(self) -> None:
        """Drop what has expired, ask again who did not answer, look around. Finds back after everybody was lost."""
        self.storage.purge(self.protocol.now())
        await asyncio.gather(*(self.protocol.call_ping(node) for node in self.protocol.router.suspects()))
        found = await self.ask_seeds(REFRESH_SEEDS if self.contacts else MAX_SEEDS)
        if found or self.contacts:
            await self.bootstrap([*found, *self._start(self.node.id)])
            await self._crawl(self.random.randbytes(KEY_BYTES), [])

    def _start(self, key: bytes) -> list[Node]:
        return self.protocol.router.closest(key, START_FACTOR * self.ksize)

    async def _crawl(self, key: bytes, start: list[Node]) -> list[Answer]:
        """Towards a key, records left out; by way of the bootstraps if nobody known answers."""

        async def attempt(nodes: list[Node]) -> list[Answer]:
            seconds = self.config.lookup_seconds / 2
            return await crawl(self.protocol, key, nodes, alpha=self.alpha, seconds=seconds)

        known = start or self._start(key)
        return (await attempt(known) if known else []) or await attempt(await self.ask_seeds())

    async def collect(self, key: bytes, fetch_page: FetchPage | None) -> list[SignedRecord]:
        """Every record under a key that replicas, or we ourselves, hold and that holds good now."""
        lookup = RecordLookup(self.protocol, key, fetch_page, self.config.max_records_per_key)
        ends = asyncio.get_running_loop().time() + self.config.lookup_seconds
        start = self._start(key)
        if start:
            await lookup.collect(start, alpha=self.alpha, seconds=self.config.lookup_seconds / 2)
        if not lookup.heard:
            start = await self.ask_seeds()
            left = max(0.0, ends - asyncio.get_running_loop().time())
            await lookup.collect(start, alpha=self.alpha, seconds=left)
        return lookup.merge.believed()

    async def publish(self, key: bytes, raw: bytes, insist: bool = True) -> Published:
        """Store a record at the k nodes nearest to a key.

        Losses, and refusals if we insist, fall through to the next nearest, up to 2k.
        """
        answers = await self._crawl(key, [])
        held_here = self.storage.put(key, raw, self.protocol.now())
        own = distance(self.node.id, key)
        nearer = sum(distance(answer.node.id, key) < own for answer in answers)
        held = int(held_here and nearer < self.ksize and not self.protocol.passive)
        refused = 0
        left = answers[: 2 * self.ksize]
        while left and (missing := self.ksize - held - (0 if insist else refused)) > 0:
            batch, left = left[:missing], left[missing:]
            stored = await asyncio.gather(
                *(
                    self.protocol.call((one.node.ip, one.node.port), one.node.id, Method.STORE, key, raw)
                    for one in batch
                )
            )
            heard = [answer.body == HELD for answer in stored if answer is not None]
            held, refused = held + sum(heard), refused + len(heard) - sum(heard)
        return Published(held, refused)

    def __repr__(self) -> str:
        return f"RecordServer({self.contacts} contacts, {self.storage!r})"

    @classmethod
    def _refused(cls, *_: object, **__: object) -> NoReturn:
        raise TypeError("the package's own values and state are not used: publish() and collect() signed records")

    get = set = set_digest = save_state = load_state = save_state_regularly = refresh_table = _refused
