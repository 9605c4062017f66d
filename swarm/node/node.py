"""One daemon: composes the services of a mode, in the order in which they must be torn down.

A bootstrap is a directory, a probe and a page server. A worker is a bootstrap that also holds layers. A client neither listens
nor stores records for others: it asks. Any of them may answer programs over HTTP; a node that does nothing else is a client.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from swarm.config import (
    ApiConfig,
    AskConfig,
    ChannelConfig,
    ClientConfig,
    DirectoryConfig,
    NodeConfig,
    SpanConfig,
    WorkerConfig,
)
from swarm.discovery import Directory
from swarm.errors import NotAllowed, PortInUse, ProtocolFault, UsageFault
from swarm.identity import Identity, PeerId
from swarm.node.addresses import Interfaces, announced
from swarm.node.dial_back import Back
from swarm.node.joining import join_within
from swarm.records import Address
from swarm.trace import Trace
from swarm.transport.channels.channel import Channel, Exchange
from swarm.transport.channels.dial import dial
from swarm.transport.channels.server import ChannelServer
from swarm.transport.probes.service import ProbeServer
from swarm.transport.tls.diagnosis import diagnosed
from swarm.transport.tls.network import TlsNetwork
from swarm.wire.messages import Attach, DialBack, FetchRecords, Load, Message, Push, RecordsPage

if TYPE_CHECKING:  # a bootstrap loads no torch
    from swarm.client import Client
    from swarm.node.api import Api
    from swarm.node.layers import Layers

PORT_TRIES = 20  # free TCP ports tried until the same UDP port is free too


class Node:
    """`async with Node(...) as node: await node.wait(stop)`.

    With `serve` it is a worker; with `ask` a client, whose `client` generates; with neither a bootstrap, or with `api` and
    `passive` a client that answers programs only.
    """

    def __init__(
        self,
        config: NodeConfig,
        identity: Identity,
        *,
        serve: SpanConfig | None = None,
        ask: AskConfig | None = None,
        api: ApiConfig | None = None,
        passive: bool = False,
        client_config: ClientConfig | None = None,
        worker_config: WorkerConfig | None = None,
        channel_config: ChannelConfig | None = None,
        directory_config: DirectoryConfig | None = None,
        trace: Trace | None = None,
        now: Callable[[], float] = time.time,
        progress: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.config = config
        self.identity = identity
        self.trace = trace or Trace()
        if serve is not None and ask is not None:
            raise UsageFault("a node serves layers or asks for answers; run two for both")
        self._serve = serve
        self._ask = ask
        self._api_config = api
        self._passive = passive or ask is not None
        self._api: Api | None = None
        self._client_config = client_config
        self._client: Client | None = None
        self._worker_config = worker_config or WorkerConfig()
        self._channel_config = channel_config or ChannelConfig()
        self._directory_config = directory_config or DirectoryConfig()
        self._now = now
        self._progress = progress
        self._network = TlsNetwork(identity, swarm_key=config.swarm_key, config=self._channel_config)
        self._back = Back(self._network, self._channel_config, self.trace)
        self._stack = AsyncExitStack()
        self._interfaces = Interfaces()
        self._layers: Layers | None = None
        self._directory: Directory | None = None
        self._server: ChannelServer | None = None
        self._probe: ProbeServer | None = None

    @property
    def peer_id(self) -> PeerId:
        return self.identity.peer_id

    @property
    def directory(self) -> Directory:
        if self._directory is None:
            raise RuntimeError("the node is not running")
        return self._directory

    @property
    def client(self) -> Client:
        """Of a node with `ask`."""
        if self._client is None:
            raise UsageFault("this node asks for no answers: give it `ask`")
        return self._client

    @property
    def answers(self) -> bool:
        """Whether programs may ask it over HTTP."""
        return self._api is not None

    @property
    def api(self) -> Api:
        """Of a node with `api`."""
        if self._api is None:
            raise UsageFault("this node answers no programs: give it `api`")
        return self._api

    @property
    def ports(self) -> tuple[int, int, int]:
        """TCP data, UDP directory, UDP probe."""
        if self._server is None or self._directory is None or self._probe is None:
            raise RuntimeError("the node is not running")
        return self._server.port, self._directory.port, self._probe.port

    @property
    def addresses(self) -> tuple[Address, ...]:
        """What others are told."""
        config, public = self.config, self.config.public_port
        ports = self.ports if public is None else (public, public, public + 1)
        return announced(
            config.host, config.public_host, self.directory.observed_host(), self._interfaces.addresses(), ports
        )

    async def __aenter__(self) -> Node:
        async with self._stack:
            await self._start()
            self._stack = self._stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def wait(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; a service that ends by itself ends the node, with its error."""
        stopping = asyncio.create_task(stop.wait())
        tasks = [
            *self.directory.tasks,
            *(self._layers.tasks if self._layers else ()),
            *(self._api.tasks if self._api else ()),
        ]
        try:
            done, _ = await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
        for task in done - {stopping}:
            if not task.cancelled():  # which would pass for the end of whoever waits here
                task.result()
            raise RuntimeError(f"{task.get_name()} ended")

    async def drain(self) -> None:
        """Take no new sessions, tell the swarm, and let running ones finish for a while."""
        if self._layers is not None and self._server is not None:
            await self._layers.drain(self._server.part)

    async def _start(self) -> None:
        if self._passive:
            await self._join_passively()
            if self._ask is not None:
                await self._start_client(self._ask)
        else:
            await self._serve_others()
        if self._api_config is not None:
            from swarm.node.api import Api

            mode = "worker" if self._serve else "client" if self._passive else "bootstrap"
            self._api = await self._stack.enter_async_context(
                Api(
                    self._api_config,
                    mode=mode,
                    identity=self.identity,
                    directory=self.directory,
                    network=self._network,
                    client_config=self._client_config,
                    channel_config=self._channel_config,
                    trace=self.trace,
                )
            )

    async def _serve_others(self) -> None:
        await self._listen()
        await self._join()
        if self._serve is not None:
            from swarm.node.layers import Layers
            from swarm.worker.neighbours import Neighbours

            neighbours = Neighbours(self._network, self._channel_config, self.trace)
            self._layers = await self._stack.enter_async_context(
                Layers(
                    self._serve,
                    self.identity,
                    self.directory,
                    lambda: self.addresses,
                    config=self._worker_config,
                    trace=self.trace,
                    progress=self._progress,
                    neighbours=await self._stack.enter_async_context(neighbours),
                )
            )

    async def _join(self) -> None:
        def join() -> Awaitable[None]:
            return diagnosed(self.directory.join(), self._network, self.config.bootstrap)

        await join_within(join, self.config.wait_seconds, self._progress)

    async def _join_passively(self) -> None:
        config = self.config
        self._directory = await self._stack.enter_async_context(
            Directory(
                self.identity,
                host=config.host,
                port=0,
                bootstrap=config.bootstrap,
                swarm_key=config.swarm_key,
                known_peers=config.known_peers,
                passive=True,
                config=self._directory_config,
                now=self._now,
                fetch_page=self._fetch_page,
                trace=self.trace,
            )
        )
        await self._join()

    async def _start_client(self, ask: AskConfig) -> None:
        from swarm.client import Client

        self._client = await self._stack.enter_async_context(
            Client(
                ask.model,
                models_dir=ask.models_dir,
                chain=tuple(PeerId(peer) for peer in ask.chain),
                precision=ask.precision,
                device=ask.device,
                backend=ask.backend,
                identity=self.identity,
                network=self._network,
                directory=self.directory,
                now=self.directory.time,
                config=self._client_config,
                bans=ask.bans,
                channel_config=self._channel_config,
                trace=self.trace,
            )
        )

    async def _listen(self) -> None:
        """TCP and UDP on one port. With port 0 a pair that is free on both is looked for."""
        for _ in range(PORT_TRIES):
            async with AsyncExitStack() as stack:
                try:
                    await self._listen_once(stack)
                except PortInUse:
                    if self.config.port:
                        raise
                    continue
                self._stack.push_async_exit(stack.pop_all())
                return
        raise PortInUse(f"no port is free for both TCP and UDP on {self.config.host}")

    async def _listen_once(self, stack: AsyncExitStack) -> None:
        config = self.config
        self._server = await stack.enter_async_context(
            ChannelServer(
                self._network,
                config.host,
                config.port,
                self._handle,
                self._channel_config,
                self.trace,
                on_close=self._channel_closed,
                load=self._load if self._serve else None,
                on_push=self._pushed,
            )
        )
        port = self._server.port
        self._directory = await stack.enter_async_context(
            Directory(
                self.identity,
                host=config.host,
                port=port,
                data_port=port if config.public_port is None else config.public_port,
                bootstrap=config.bootstrap,
                swarm_key=config.swarm_key,
                known_peers=config.known_peers,
                allow=config.allow if self._serve is None else None,  # a worker names those that it computes for
                config=self._directory_config,
                now=self._now,
                fetch_page=self._fetch_page,
                trace=self.trace,
            )
        )
        self._probe = await stack.enter_async_context(
            ProbeServer(config.host, port + 1 if config.probe_port is None else config.probe_port)
        )

    async def _handle(self, message: Message, exchange: Exchange) -> Message:
        named = isinstance(message, Attach)  # by who is served
        if self.config.allow is not None and exchange.peer_id not in self.config.allow and not named:
            raise NotAllowed(f"it serves only peers named with --allow, and {exchange.peer_id} is none of them")
        if isinstance(message, FetchRecords):
            records, more = self.directory.page(message.key, message.offset)
            return RecordsPage(tuple(records), more)
        if isinstance(message, DialBack):
            return await self._back.answer(message, exchange)
        if self._layers is None:
            raise UsageFault("this peer holds no layers")
        return await self._layers.services.handle(message, exchange)

    def _pushed(self, channel: Channel, push: Push) -> None:
        """Who may push rows the session that they are for knows."""
        if self._layers is not None:
            self._layers.services.push(push, channel.peer_id)

    def _load(self) -> Load:
        return self._layers.services.load() if self._layers else Load(0, 0, 0, 0.0)

    def _channel_closed(self, channel: Channel) -> None:
        assert self._server is not None
        if self._layers is not None and all(other.peer_id != channel.peer_id for other in self._server.channels):
            self._layers.services.connection_lost(channel.peer_id)

    async def _fetch_page(self, address: Address, peer_id: PeerId, key: bytes, offset: int) -> tuple[list[bytes], bool]:
        """A page of another directory's records, over TCP. Raises PeerFault."""
        channel = await dial(self._network, (address,), peer_id, self._channel_config, trace=self.trace)
        try:
            reply = await channel.request(FetchRecords(key, offset))
        finally:
            await channel.aclose()
        if not isinstance(reply, RecordsPage):
            raise ProtocolFault(f"peer {peer_id.short} answered FetchRecords with {type(reply).__name__}")
        return list(reply.records), reply.more
