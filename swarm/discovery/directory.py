"""The directory as floors above see it: `join`, `announce`, `lookup`. Everything else of discovery is behind it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from random import Random, SystemRandom
from types import TracebackType
from typing import Self

from swarm.config import DirectoryConfig
from swarm.discovery.clock import SwarmClock
from swarm.discovery.endpoint import OpenSocket, open_udp, resolve
from swarm.discovery.keys import Keyspace
from swarm.discovery.peer_file import KnownPeer, chosen, read_peer_file, write_peer_file
from swarm.discovery.protocol import LAST_WAIT
from swarm.discovery.record_lookup import FetchPage
from swarm.discovery.server import Published, RecordServer
from swarm.discovery.store import is_live
from swarm.errors import NoSwarm, Overloaded
from swarm.identity import Identity, PeerId
from swarm.records import ANNOUNCE_INTERVAL, ModelRef, SignedRecord
from swarm.span import name_layers
from swarm.trace import Trace

MAX_KEYS_AT_ONCE = 8  # read or written in parallel
JOIN_ATTEMPTS = 3  # before a bootstrap counts as silent
MAX_SKIPPED = 7  # announcements in a row that an index without room is spared
KNOCKS_PER_SECOND = 16  # of a whole swarm at its bootstraps


class Turns:
    """Which announcements are told to the index: all, until it has no place for the peer; then every second, fourth, eighth.

    In a crowd most have none, and its few replicas would do little else than refuse them.
    """

    def __init__(self) -> None:
        self._skip, self._left = 0, 0

    def due(self, changed: bool) -> bool:
        """Whether the next one is told. One that says something else always is."""
        if changed or not self._left:
            return True
        self._left -= 1
        return False

    def told(self, published: Published) -> None:
        """Silence is no refusal."""
        self._skip = 0 if published.held or not published.refused else min(2 * self._skip + 1, MAX_SKIPPED)
        self._left = self._skip


class Directory:
    """One node of the DHT. `async with` it, then `join()`.

    `bootstrap` are (host, port) pairs, names allowed; empty for the first bootstrap. `passive` nodes (clients, hidden peers) are
    not listed by others and store nothing. `data_port`, if not 0, is the TCP port where `page()` is served; `fetch_page` asks
    another peer for its. `host` "::" listens on v4 and v6. With a `swarm_key` only who has the same one finds anything here,
    is answered, and is believed. `allow` names the only peers whose records are kept for others.
    `known_peers` is a file where peers that answered are kept, for the day when no bootstrap does.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        host: str = "::",
        port: int = 0,
        bootstrap: Sequence[tuple[str, int]] = (),
        passive: bool = False,
        config: DirectoryConfig | None = None,
        now: Callable[[], float] = time.time,
        random: Random | None = None,
        open_socket: OpenSocket = open_udp,
        fetch_page: FetchPage | None = None,
        data_port: int = 0,
        trace: Trace | None = None,
        swarm_key: bytes | None = None,
        allow: frozenset[bytes] | None = None,
        known_peers: Path | None = None,
    ) -> None:
        self.identity = identity
        self.config = config or DirectoryConfig()
        self.trace = trace or Trace()
        self.host, self.port = host, port
        self._bootstrap = tuple(bootstrap)
        self._random = random or SystemRandom()
        self._open_socket, self._fetch_page = open_socket, fetch_page
        self._keyspace = Keyspace(swarm_key)
        self._server = RecordServer(
            identity,
            self.config,
            passive=passive,
            data_port=data_port,
            clock=SwarmClock(now, lambda: asyncio.get_running_loop().time()),
            random=self._random,
            trace=self.trace,
            keyspace=self._keyspace,
        )
        self._server.storage.allow = allow
        self._resolved: dict[tuple[str, int], list[tuple[str, int]]] = {}
        self._known_peers = known_peers
        self._left = False
        self._last: SignedRecord | None = None  # announced last, or by an earlier run
        self._index_turns = Turns()
        self._upkeep_task: asyncio.Task[None] | None = None
        self._keys_at_once = asyncio.Semaphore(MAX_KEYS_AT_ONCE)

    async def __aenter__(self) -> Self:
        """Listen. Raises PortInUse, UsageFault."""
        self.port = await self._server.listen(self._open_socket, self.host, self.port)
        self._upkeep_task = asyncio.get_running_loop().create_task(self._upkeep())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._keep_known()
        self._left = True
        await self._server.close()
        if self._upkeep_task is not None:
            self._upkeep_task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._upkeep_task

    async def join(self) -> None:
        """Get to know the swarm through the bootstraps, else through peers known from before. Raises NoSwarm, naming those."""
        known = self._read_peer_file()
        if not self._bootstrap and not known:
            return
        with self.trace.span("directory.join", known=len(known)):
            for attempt in range(JOIN_ATTEMPTS):
                await self._resolve()
                patience = LAST_WAIT * 2.0**attempt  # how long answers take here nobody knows yet
                found = await self._server.ask_seeds(last_wait=patience) or await self._server.ask_known(known)
                if found:
                    await self._server.bootstrap(found)
                self._still_here()
                if found:
                    return
            if self._bootstrap:
                raise NoSwarm(self._silence())

    def _read_peer_file(self) -> list[KnownPeer]:
        """A file that cannot be used is as good as none: it is told, and written anew."""
        if self._known_peers is None:
            return []
        try:
            return read_peer_file(self._known_peers)
        except (OSError, ValueError) as error:
            self.trace.failed("directory.known", file=str(self._known_peers), error=str(error))
            return []

    def _keep_known(self) -> None:
        """Never instead of peers known before: while nobody answers the file stays as it is."""
        alive = self._server.steady()
        if self._known_peers is None or not alive:
            return
        try:
            write_peer_file(self._known_peers, chosen(alive, self._read_peer_file(), self.time()))
        except OSError as error:  # the disk is full or read-only: the swarm does without
            self.trace.failed("directory.known", file=str(self._known_peers), error=str(error))

    def _silence(self) -> str:
        named = ", ".join(
            f"{host} port {port}" + ("" if self._resolved.get((host, port)) else " (no such host)")
            for host, port in self._bootstrap
        )
        return f"no bootstrap answered: {named}. Check the addresses and UDP, or start one with `swarm bootstrap`"

    async def announce(self, signed: SignedRecord) -> int:
        """Store a record where its span is looked for, and drop this peer's last one where it no longer belongs.

        How many replicas hold it now, by the worst of its keys, the index aside. 0 too if it has expired or is not the newest.
        Raises Overloaded if those of a key answer, and all have no room for it.
        """
        record = signed.record
        details = {"peer": record.peer_id.short, "span": str(record.span), "sequence": record.sequence}
        self.trace.started("directory.announce", **details)
        await self._resolve()
        if self._server.storage.verifier.check(signed.raw, self.time()) is None:
            self.trace.failed("directory.announce", error="expired, or older than one announced before", **details)
            return 0
        last, self._last = self._last, signed
        keys, index = self._keyspace.keys_of(record), self._keyspace.index
        former = self._keyspace.keys_of(last.record) if last and last.record.peer_id == record.peer_id else []
        changed = last is None or former != keys or last.record.state is not record.state
        told = [key for key in dict.fromkeys([*keys, *former]) if key != index or self._index_turns.due(changed)]

        async def store(key: bytes) -> Published:
            async with self._keys_at_once:
                return await self._server.publish(key, signed.raw, insist=key != index)

        found = dict(zip(told, await asyncio.gather(*map(store, told)), strict=True))
        self._still_here()
        if index in found:
            self._index_turns.told(found[index])
        worst = min((found[key] for key in keys if key != index), key=lambda published: published.held)
        (self.trace.complete if worst.held else self.trace.failed)("directory.announce", replicas=worst.held, **details)
        if not worst.held and worst.refused >= self.config.k:
            layers = f"{name_layers([record.span])} of {record.model}"
            raise Overloaded(f"more peers announce {layers} than the directory has room for", ANNOUNCE_INTERVAL)
        return worst.held

    def succeed(self, former: SignedRecord) -> None:
        """What an earlier run under this key announced: the next announcement replaces it wherever it lies."""
        if self._last is None:
            self._last = former

    async def lookup(self, model: ModelRef) -> list[SignedRecord]:
        """Every live record of a model, one for each peer, in the order of their ids; of those that left too, who are GONE, so
        that whoever remembers what these said before forgets it."""
        records = await self._collect(self._keyspace.keys_of_model(model))
        return [
            signed
            for signed in records
            if signed.record.model.digest == model.digest and signed.record.model.layer_count == model.layer_count
        ]

    async def lookup_all(self) -> list[SignedRecord]:
        """Records of everything that is served, read from the index: every model, though not every peer of a large swarm. Of
        those that left too, as in `lookup`."""
        return await self._collect([self._keyspace.index])

    async def _collect(self, keys: Iterable[bytes]) -> list[SignedRecord]:
        began = asyncio.get_running_loop().time()
        await self._resolve()

        async def read(key: bytes) -> list[SignedRecord]:
            async with self._keys_at_once:
                return await self._server.collect(key, self._fetch_page)

        newest: dict[PeerId, SignedRecord] = {}
        read_keys = await asyncio.gather(*map(read, keys))
        self._still_here()
        for records in read_keys:
            for signed in records:
                held = newest.get(signed.record.peer_id)
                if held is None or held.record.sequence < signed.record.sequence:
                    newest[signed.record.peer_id] = signed
        now = self.time()
        believed = [newest[peer] for peer in sorted(newest) if is_live(newest[peer].record, now)]
        seconds = round(asyncio.get_running_loop().time() - began, 4)
        self.trace.complete("directory.lookup", records=len(believed), seconds=seconds)
        return believed

    def _still_here(self) -> None:
        """Whatever was under way when the directory was left has come to nothing. Raises NoSwarm."""
        if self._left:
            raise NoSwarm("this node has left the swarm")

    def page(self, key: bytes, offset: int) -> tuple[list[bytes], bool]:
        """Records that this node holds under a key, from the offset on, and whether there are more: what `fetch_page` gets."""
        return self._server.storage.page(key, offset, self.time())

    def time(self) -> float:
        """Swarm time: what expiry is set and judged by."""
        return self._server.protocol.now()

    def observed_host(self) -> str | None:
        """Our address as most responders see it; None before any answered, or while they disagree."""
        return self._server.protocol.observed_host()

    @property
    def tasks(self) -> tuple[asyncio.Task[None], ...]:
        """The loop that runs until the directory is left."""
        return (self._upkeep_task,) if self._upkeep_task else ()

    @property
    def contacts(self) -> int:
        """Nodes known and believed alive."""
        return self._server.contacts

    @property
    def counters(self) -> Counter[str]:
        """What arrived and what was refused, by fixed names."""
        return self._server.protocol.counters

    async def _resolve(self) -> None:
        """Names that did not resolve are tried again each time; those that did stay."""
        missing = [name for name in self._bootstrap if not self._resolved.get(name)]
        if missing:
            self._resolved.update(await resolve(missing))
            self._server.seeds = list(
                dict.fromkeys(to for name in self._bootstrap for to in self._resolved.get(name, ()))
            )

    async def _upkeep(self) -> None:
        """Refresh the table now and then, and at once while nobody is known who answers; knock at bootstraps between."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self.config.refresh_seconds
        knock = loop.time() + self.config.knock_seconds
        keep = loop.time()
        while True:
            await asyncio.sleep(self.config.rejoin_seconds * self._random.uniform(0.75, 1.25))
            if loop.time() >= keep:
                self._keep_known()
                keep = loop.time() + self.config.keep_seconds
            if loop.time() < due and (self.contacts or not (self._server.seeds or self._server.protocol.router.lost)):
                if loop.time() >= knock and not self._server.protocol.passive:
                    await self._server.knock()
                    knock = loop.time() + self._knock_pause() * self._random.uniform(0.75, 1.25)
                continue
            await self._resolve()
            await self._server.refresh()
            due = loop.time() + self.config.refresh_seconds * self._random.uniform(0.75, 1.25)

    def _knock_pause(self) -> float:
        """Longer in a crowd: a bootstrap that was started anew need not hear of everybody at once."""
        crowded = self._server.protocol.router.estimated_nodes() / KNOCKS_PER_SECOND
        return max(self.config.knock_seconds, min(crowded, self.config.refresh_seconds))

    def __repr__(self) -> str:
        return f"Directory({self.identity.peer_id.short}, port {self.port}, {self._server!r})"
