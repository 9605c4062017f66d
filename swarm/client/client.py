"""`Client`: a model's text, embedding and head here, its layers on a swarm (or, with `local`, in this process)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import Random, SystemRandom
from typing import Any
from weakref import WeakSet

from swarm.checkpoint.locate import find_model, model_name
from swarm.client.audits.auditor import Auditor
from swarm.client.audits.bans import Bans
from swarm.client.embed import Encoded, embed_ids, encode_text, text_rows
from swarm.client.generate import Answer, Options, Session
from swarm.client.head_loader import HeadLoader
from swarm.client.heads import Heads
from swarm.client.local import CacheBytes, LocalModel, LocalPrecision, default_precision, load_local
from swarm.client.opening import open_chain
from swarm.client.peers import Peers, Probe
from swarm.client.prefixes.cache import PrefixCache
from swarm.client.prefixes.cache import Prompt as SharedPrompt
from swarm.client.resolver import Directory, Resolver
from swarm.client.room import Room, prompt_too_long, rows_of_records
from swarm.client.started import Started
from swarm.config import ChannelConfig, ClientConfig, parse_addresses
from swarm.discovery import Directory as KademliaDirectory
from swarm.engine.backends import Sizes, open_model
from swarm.engine.compute_thread import ComputeThread
from swarm.engine.pooling import Pooling, read_pooling
from swarm.errors import LocalFault, NoRoom, UsageFault
from swarm.identity import Identity, PeerId
from swarm.records import ModelRef
from swarm.routing.limits import Limits
from swarm.text.tokenizer import Text
from swarm.trace import Trace
from swarm.transport.base import Network
from swarm.transport.probes.service import measure_round_trips
from swarm.transport.tls.diagnosis import diagnosed
from swarm.transport.tls.network import TlsNetwork

SHIPPED = {"demo": Path(__file__).parents[1] / "demo" / "model"}  # models that come with the package
Prompt = str | Sequence[int] | Sequence[Mapping[str, str]]


class Client:
    """`async with Client("demo", bootstrap=["10.0.0.1:7700"]) as client: async for token in client.generate("Hi")`.

    `model` is a directory or a name in `models_dir`, `bootstrap` HOST:PORT or (host, port) of nodes to begin with. With
    `local` there is no network: every layer is computed here, in `precision` or what `choose_precision` says, in caches of
    `cache_bytes`. `swarm_key` is the secret of a private swarm, `bans` the file of peers that lied (None: remembered while the
    client runs), `random` draws what is audited. Parts that are not given (identity, network, directory) are made and stopped
    with the client. `now` is swarm time where the directory is given; one that is made here tells it.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        bootstrap: str | Sequence[str | tuple[str, int]] = (),
        swarm_key: bytes | None = None,
        chain: Sequence[PeerId] = (),
        precision: str | None = None,
        models_dir: Path | None = None,
        local: bool = False,
        cache_bytes: CacheBytes | None = None,
        choose_precision: LocalPrecision = default_precision,
        device: str = "cpu",
        backend: str = "swarm",
        numerics: str = "auto",
        identity: Identity | None = None,
        network: Network | None = None,
        directory: Directory | None = None,
        probe: Probe | None = measure_round_trips,
        now: Callable[[], float] = time.time,
        config: ClientConfig | None = None,
        bans: Path | None = None,
        random: Random | None = None,
        channel_config: ChannelConfig | None = None,
        trace: Trace | None = None,
    ) -> None:
        self.path = find_model(model, models_dir, SHIPPED)
        self.config = config or ClientConfig()
        self.trace = trace or Trace()
        self.local = local
        self.precision = precision  # of the chain; None until a chain says it
        self._bootstrap = parse_addresses(bootstrap)
        self._swarm_key = swarm_key
        self._by_hand = tuple(chain)
        self._cache_bytes = cache_bytes
        self._choose_precision = choose_precision
        self._device = device
        self._backend = backend  # who computes what is computed here
        self._numerics = numerics  # with `local`; else a chain says it
        self.identity = identity or Identity.generate()
        self._network = network
        self._directory = directory
        self._probe = probe
        self._now = now
        self._bans = bans
        self._random = random or SystemRandom()
        self._channel_config = channel_config or ChannelConfig()
        self._stack = AsyncExitStack()
        self._started: Started | None = None
        self._answers: WeakSet[Answer] = WeakSet()

    async def __aenter__(self) -> Client:
        async with self._stack:
            self._started = await self._start()
            self._stack = self._stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._started = None
        async with self._stack:  # answers are closed while there is still a way to tell the workers
            ended = await asyncio.gather(*(answer.aclose() for answer in self._answers), return_exceptions=True)
            for error in ended:
                if isinstance(error, BaseException):
                    raise error

    async def _start(self) -> Started:
        compute = await self._stack.enter_async_context(ComputeThread("heads"))
        opened = await compute.run(lambda: open_model(self.path, self._backend))
        manifest, text = await compute.run(lambda: (opened.manifest(), Text.load(self.path, vocab=opened.spec.vocab)))
        model = manifest.ref(model_name(self.path))
        started = Started(compute, opened, HeadLoader(opened, compute, self._device, self.trace), text, model)
        if self.local:
            await self._start_local(started)
        else:
            await self._start_on_swarm(started)
        return started

    async def _start_local(self, started: Started) -> None:
        compute, opened, precision = started.compute, started.opened, self.precision
        if precision is None:
            precision = await compute.run(lambda: self._choose_precision(opened))
        self.precision, self._numerics = precision, started.loader.numerics(self._numerics, precision)
        place = precision, self._device, self._numerics, self._cache_bytes
        started.local = await load_local(opened, compute, *place, self.config.max_kept)

    async def _start_on_swarm(self, started: Started) -> None:
        opened = started.opened
        network = self._network or TlsNetwork(self.identity, swarm_key=self._swarm_key)
        now = self._now
        if self._directory is None:
            directory = await self._stack.enter_async_context(
                KademliaDirectory(
                    self.identity,
                    host="::",
                    port=0,
                    bootstrap=self._bootstrap,
                    swarm_key=self._swarm_key,
                    passive=True,
                    trace=self.trace,
                )
            )
            await diagnosed(directory.join(), network, self._bootstrap)
            self._directory, now = directory, directory.time
        carried = opened.spec.width - opened.spec.hidden
        started.peers = await self._stack.enter_async_context(
            Peers(network, self.config, self._channel_config, self.trace, self._probe, carried, self.identity)
        )
        bans = Bans(self._bans, now)
        bans.load()
        started.resolver = Resolver(
            self._directory,
            started.peers,
            started.model,
            now=now,
            trace=self.trace,
            precision=self.precision,
            by_hand=self._by_hand,
            bans=bans,
            bonds=opened.spec.bonds,
            rows_of=rows_of_records(opened),
            exact=self.config.exact,
            numerics=self.config.numerics,
            shortest=self.config.shortest,
            limits=Limits(frozenset(self.config.regions), self.config.max_latency),
        )
        self._stack.push_async_callback(started.resolver.aclose)
        started.auditor = await self._stack.enter_async_context(
            Auditor(
                started.resolver, started.peers, bans, self.config, self.trace, self._random, opened.spec.max_positions
            )
        )
        if self.config.max_kept:
            started.kept = await self._stack.enter_async_context(
                PrefixCache(started.resolver, started.peers, self.config, self.trace)
            )

    @property
    def _parts(self) -> Started:
        if self._started is None:
            raise LocalFault("the client is not running: use `async with Client(...)`")
        return self._started

    @property
    def banned(self) -> frozenset[PeerId]:
        """Who lied to this user; nobody of them is asked for anything."""
        return self._parts.resolver.banned if self._parts.resolver else frozenset()

    @property
    def peers(self) -> Peers | None:
        """Whom it talks to; None with `local`."""
        return self._parts.peers

    @property
    def spec(self) -> Sizes:
        return self._parts.opened.spec

    @property
    def model(self) -> ModelRef:
        return self._parts.model

    @property
    def text(self) -> Text:
        return self._parts.text

    @property
    def resolver(self) -> Resolver:
        """Of the swarm's chains. Raises LocalFault with `local`."""
        if self._parts.resolver is None:
            raise LocalFault("a local client has no swarm")
        return self._parts.resolver

    @property
    def local_model(self) -> LocalModel | None:
        """With `local`, what computes."""
        return self._parts.local

    @property
    def auditor(self) -> Auditor:
        """Of the swarm's workers. Raises LocalFault with `local`."""
        if self._parts.auditor is None:
            raise LocalFault("a local client has nobody to audit")
        return self._parts.auditor

    def encode(self, prompt: Prompt, *, raw: bool = False) -> list[int]:
        """Ids of a prompt: text goes through the chat template as the user's message unless `raw`; ids stay as they are."""
        if isinstance(prompt, str):
            if raw or not self.text.chats:
                return self.text.encode(prompt, add_special=True)
            prompt = [{"role": "user", "content": prompt}]
        if all(isinstance(part, int) for part in prompt):
            return list(prompt)  # type: ignore[arg-type]
        return self.text.encode(self.text.render_chat(prompt), add_special=False)  # type: ignore[arg-type]

    def generate(
        self,
        prompt: Prompt,
        *,
        raw: bool = False,
        options: Options | None = None,
        owner: str = "",
        reuse: bool = True,
        **sampling: Any,
    ) -> Answer:
        """Answer a text, a list of chat messages or a list of ids.

        What a prompt shares with an earlier one of the same `owner` need not be computed anew, unless `reuse` is off.
        Keywords of `Options` and `Sampling` (max_tokens, stop, temperature, seed, …) may be given directly. Raises UsageFault.
        """
        self.check_generates()
        if sampling:
            options = Options.told(sampling)
        ids, options = self.encode(prompt, raw=raw), options or Options()
        if ids != prompt and not raw and self.text.chats:
            options = replace(options, turn=True)
        known = None
        if reuse:
            known = SharedPrompt(owner, tuple(ids), lambda: answer.finish_reason is not None, lambda: answer.token_ids)
        answer = Answer(
            ids,
            options,
            self.text,
            self.spec.max_positions,
            lambda room: self._open_session(room, known),
        )
        self._answers.add(answer)
        return answer

    def check_generates(self) -> None:
        """Raises UsageFault for a model that gives vectors of texts, and no text."""
        if self.spec.both_ways:
            raise UsageFault(
                f"{self.model.name} is an encoder: it gives vectors of texts and writes none. Ask with `swarm client "
                "--embed TEXT`, or POST /v1/embeddings"
            )

    @property
    def pooling(self) -> Pooling:
        """How this model makes a vector of a text. Raises ModelFault."""
        parts = self._parts
        if parts.pooling is None:
            parts.pooling = read_pooling(self.path, self.spec.both_ways)
        return parts.pooling

    def encode_text(self, text: str) -> Encoded:
        """Ids of a text that is to be embedded; it is cut where the model's files say so. Raises UsageFault, ModelFault."""
        encoded = encode_text(self.text, self.pooling, text)
        if encoded.cut:
            self.trace.complete("embed.cut", tokens=encoded.whole, most=len(encoded.ids))
        return encoded

    async def embed(self, text: str | Sequence[int]) -> list[float]:
        """A vector for a text, or for its ids, made as the model's files say (`swarm.engine.pooling`).

        Raises UsageFault (PromptTooLong), ModelFault, NoChain, DeadlineExceeded.
        """
        ids = (await asyncio.to_thread(self.encode_text, text)).ids if isinstance(text, str) else text
        pooling = self.pooling
        async with self._open_session(Room.whole(text_rows(len(ids), self.spec))) as (session, heads):
            return await embed_ids(session, heads, ids, pooling)

    @asynccontextmanager
    async def _open_session(
        self, room: Room, prompt: SharedPrompt | None = None
    ) -> AsyncIterator[tuple[Session, Heads]]:
        """Raises PromptTooLong, at once, for a prompt that no chain could ever hold."""
        try:
            async with self._open_roomy(room, prompt) as opened:
                yield opened
        except NoRoom as error:
            raise prompt_too_long(room, error, self.model.name) from error

    @asynccontextmanager
    async def _open_roomy(self, room: Room, prompt: SharedPrompt | None) -> AsyncIterator[tuple[Session, Heads]]:
        started = self._parts
        if started.local is not None:
            heads = await started.loader.heads(started.local.stage.precision, self._numerics)
            async with started.local.session(room, prompt) as local:
                yield local, heads
            return
        assert started.peers is not None
        async with open_chain(
            self.resolver,
            started.peers,
            self.config,
            self.trace,
            room,
            started.loader.heads,
            started.auditor,
            started.kept,
            prompt,
        ) as opened:
            yield opened
