"""Which models can be asked for: what the swarm serves in full, as far as this node has its tokenizer, embedding and head.

A client for each is started when it is first asked for. Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from swarm.checkpoint.locate import model_name, owned_names
from swarm.client import Client
from swarm.client.local import CacheBytes, LocalPrecision, default_precision
from swarm.client.room import RowsOf, chain_rows, rows_of_records, rows_within
from swarm.engine.backends import Model, Sizes, open_model
from swarm.errors import ModelFault, NoSwarm, PortInUse, UsageFault
from swarm.gateway.http.errors import UnknownModel
from swarm.identity import PeerId
from swarm.records import Address, ModelRef, PeerRecord, PeerState, SignedRecord, still_here
from swarm.span import LayerSpan, missing_layers
from swarm.text.tokenizer import Text
from swarm.trace import Trace

FRESH_SECONDS = 5.0  # what the directory said is believed for so long
WATCH_SECONDS = 0.5  # the same for those who watch
LOOK_SHARE = 0.1  # of the time that watching may spend on asking the directory
PROBE_SECONDS = 1.0  # a worker that answered earlier and says nothing for so long is gone
MAX_PROBED = 256  # workers of a look
MAX_MODELS = 64


Probe = Callable[
    [Sequence[Address], int, float], Awaitable[Mapping[Address, float]]
]  # addresses, tries, seconds -> round trips


class Directory(Protocol):
    """What the catalog needs of the directory."""

    async def lookup_all(self) -> list[SignedRecord]: ...


@dataclass(frozen=True, slots=True)
class Local:
    """A model whose files are here."""

    path: Path
    ref: ModelRef
    opened: Model
    rows_of: RowsOf  # that a session may have at a worker
    name: str = ""  # by which it is asked for

    @property
    def spec(self) -> Sizes:
        return self.opened.spec

    @property
    def owned(self) -> tuple[str, ...]:
        """As `owner/name`, as the command line knows it."""
        return owned_names(self.path, self.ref.name)


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model, as those who ask are told of it."""

    id: str
    digest: str
    layers: int
    context: int  # tokens that a prompt and its answer may have: the model's, or what the caches of a chain hold
    created: int  # seconds since 1970, when this node first had it
    available: bool  # the swarm serves all of its layers
    missing: tuple[LayerSpan, ...]


@dataclass(slots=True)
class _Seen:
    records: list[PeerRecord] = field(default_factory=list)
    at: float = float("-inf")  # loop time
    seconds: float = 0.0  # that the look took


class Catalog:
    """`async with Catalog(...)`: leaving stops the clients."""

    def __init__(
        self,
        paths: Sequence[Path],
        directory: Directory | None,
        make_client: Callable[[Path], Client],
        *,
        named: Sequence[Path] = (),
        probe: Probe | None = None,
        backend: str = "swarm",
        cache_bytes: CacheBytes | None = None,
        choose_precision: LocalPrecision = default_precision,
        trace: Trace | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._named = frozenset(named)
        self._probe = probe  # None: whoever has a record is believed to be there
        self._paths = tuple(paths)[:MAX_MODELS]
        self._directory = directory  # None: every layer is computed here
        self._make_client = make_client
        self._backend = backend  # who reads the models' configs
        self._cache_bytes = cache_bytes  # of what is computed here; None: not known before it is
        self._choose_precision = choose_precision  # likewise
        self._trace = trace or Trace()
        self._now = now
        self._local: dict[str, Local] = {}
        self._created = 0
        self._clients: dict[str, Client] = {}
        self._starting: dict[str, asyncio.Lock] = {}
        self._seen = _Seen()
        self._heard: set[PeerId] = set()  # who has a record and has answered a probe
        self._silent: dict[
            PeerId, int
        ] = {}  # of those, who did not answer the last one, and the sequence of their records then
        self._probed_at = float("-inf")  # loop time
        self._hearing: asyncio.Task[None] | None = None
        self._looking = asyncio.Lock()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Read what models there are, their tokenizers and templates too. One that cannot be read is told in the trace and left
        out. Raises ModelFault if it was named."""
        self._created = int(self._now())
        found: list[Local] = []
        for path in self._paths:
            try:
                local = await asyncio.to_thread(_read, path, self._backend)
            except ModelFault as error:
                if path in self._named:
                    raise
                self._trace.failed("catalog.model", path=str(path), error=str(error))
            else:
                found.append(local)
        for local in named(found):
            self._local.setdefault(local.name, local)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._clients = {}
        if self._hearing is not None:
            self._hearing.cancel()
            await asyncio.gather(self._hearing, return_exceptions=True)
        await self._stack.aclose()

    @property
    def clients(self) -> Mapping[str, Client]:
        """Those that were started."""
        return self._clients

    @property
    def known_records(self) -> Sequence[PeerRecord]:
        """As they were when somebody last looked."""
        return [record for record in self._seen.records if record.sequence > self._silent.get(record.peer_id, -1)]

    @property
    def models(self) -> Mapping[str, ModelRef]:
        """Whose files are here, by name."""
        return {name: local.ref for name, local in self._local.items()}

    @property
    def swarms(self) -> bool:
        """Whether there is a swarm at all."""
        return self._directory is not None

    async def records(self, watched: bool = False) -> list[PeerRecord]:
        """Every worker's record, a few seconds old at most, or as new as somebody who watches wants them. Empty without a swarm.

        Who has said that it left is not among them.
        """
        if self._directory is None:
            return []
        async with self._looking:
            now = asyncio.get_running_loop().time()
            if now - self._seen.at > (
                max(WATCH_SECONDS, self._seen.seconds / LOOK_SHARE) if watched else FRESH_SECONDS
            ):
                await self._look(self._directory, watched)
        avoided = self._avoided()
        return [record for record in self.known_records if record.peer_id not in avoided]

    async def _look(self, directory: Directory, watched: bool) -> None:
        """Whoever watches hears at once who left; whoever was killed takes a probe to find out, which nobody waits for then."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            found = still_here(signed.record for signed in await directory.lookup_all())
        except NoSwarm as error:
            self._trace.failed("catalog.lookup", error=str(error))
            found = []
        took = loop.time() - began
        hears = self._hearing is not None and not self._hearing.done()
        if self._probe is not None and not hears and loop.time() - self._probed_at > FRESH_SECONDS:
            self._probed_at = loop.time()
            self._hearing = asyncio.create_task(self._hear(self._probe, found), name="probes")
            if not watched:
                await self._hearing
        self._seen = _Seen(found, loop.time(), took)

    async def _hear(self, probe: Probe, records: list[PeerRecord]) -> None:
        """Who answered a probe once and does not now is silent: a record outlives a worker that was killed by a minute.

        Who never answered may sit where datagrams do not get through, and is believed; so is who announces itself anew.
        """
        probed = records[:MAX_PROBED]
        places = [address for record in probed for address in record.addresses]
        try:
            answered = await probe(places, 1, PROBE_SECONDS)
        except (OSError, PortInUse, UsageFault) as error:  # no socket to probe with: what was heard before holds
            self._trace.failed("catalog.probe", error=str(error))
            return
        alive = {record.peer_id for record in probed if any(address in answered for address in record.addresses)}
        self._silent = {r.peer_id: r.sequence for r in probed if r.peer_id in self._heard and r.peer_id not in alive}
        self._heard = (self._heard & {record.peer_id for record in records}) | alive

    def _avoided(self) -> set[PeerId]:
        """Whom a client found dead or lying."""
        return {
            peer_id
            for client in self._clients.values()
            if client.peers is not None
            for peer_id in client.peers.avoided(strictly=True)
        }

    async def cards(self, watched: bool = False) -> list[ModelCard]:
        """Of every model whose files are here, by name; `watched` as of `records`."""
        records = await self.records(watched)
        return [self._card(local, records) for _, local in sorted(self._local.items())]

    async def card(self, name: str) -> ModelCard:
        """Raises UnknownModel."""
        return self._card(self._known(name), await self.records())

    async def client(self, name: str) -> Client:
        """The client of a model, started if need be. Raises UnknownModel, ModelFault."""
        local = self._known(name)
        async with self._starting.setdefault(local.name, asyncio.Lock()):
            if local.name not in self._clients:
                client = self._make_client(local.path)
                self._clients[local.name] = await self._stack.enter_async_context(client)
            return self._clients[local.name]

    def _known(self, name: str) -> Local:
        if name not in self._local:
            owned = [local for local in self._local.values() if name in local.owned]
            if len(owned) == 1:
                return owned[0]
            there = ", ".join(sorted(self._local)) or "none"
            raise UnknownModel(f"there is no model {name!r} here; there are: {there}")
        return self._local[name]

    def _context(self, local: Local, records: Iterable[PeerRecord]) -> int:
        """Tokens that one session may have: the model's context, or less where no caches hold so many."""
        opened, context = local.opened, local.spec.max_positions
        if self._directory is not None:
            serving = [record for record in records if record.model.digest == local.ref.digest]
            return min(context, chain_rows(serving, local.spec.span, local.rows_of) or context)
        client = self._clients.get(local.name)
        running = client.local_model if client is not None else None
        if running is not None:
            return rows_within(opened, local.spec.span, running.stage.precision, running.stage.pool.budget)
        if self._cache_bytes is None:
            return context
        precision = self._choose_precision(opened)
        return rows_within(opened, local.spec.span, precision, self._cache_bytes(opened, precision))

    def _card(self, local: Local, records: Iterable[PeerRecord]) -> ModelCard:
        missing: tuple[LayerSpan, ...] = ()
        if self._directory is not None:
            missing = missing_of(local.ref, records)
        return ModelCard(
            local.name,
            local.ref.digest.hex(),
            local.ref.layer_count,
            self._context(local, records),
            self._created,
            not missing,
            missing,
        )


def named(found: Sequence[Local]) -> list[Local]:
    """Each by its own name; by `owner/name` where several models have one. A model that is here twice counts once."""
    digests: dict[str, set[bytes]] = {}
    for local in found:
        digests.setdefault(local.ref.name, set()).add(local.ref.digest)
    return [
        replace(local, name=local.owned[0] if len(digests[local.ref.name]) > 1 else local.ref.name) for local in found
    ]


def _read(path: Path, backend: str) -> Local:
    opened = open_model(path, backend)
    Text.load(path, vocab=opened.spec.vocab)  # what is wrong with it is told at the start, not to whoever asks first
    return Local(path, opened.manifest().ref(model_name(path)), opened, rows_of_records(opened))


def missing_of(model: ModelRef, records: Iterable[PeerRecord]) -> tuple[LayerSpan, ...]:
    """The layers that nobody serves, in the precision that lacks fewest of them: a chain has one."""
    by_precision: dict[str, list[LayerSpan]] = {"": []}
    for record in records:
        if record.model.digest == model.digest and record.state is PeerState.SERVING:
            by_precision.setdefault(record.precision, []).append(record.span)
    whole = LayerSpan(0, model.layer_count)
    return min((missing_layers(spans, whole) for spans in by_precision.values()), key=lambda gaps: sum(map(len, gaps)))
