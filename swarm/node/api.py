"""The HTTP API as a service of a node: a catalog of models whose clients share the node's directory and network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from swarm.client import Client
from swarm.client.local import LocalPrecision
from swarm.config import ApiConfig, ChannelConfig, ClientConfig
from swarm.discovery import Directory
from swarm.gateway.app import create_app
from swarm.gateway.call import Gateway
from swarm.gateway.catalog import Catalog, Probe
from swarm.gateway.generation.generator import Generator
from swarm.gateway.http.auth import Keys, check_exposure
from swarm.gateway.http.server import HttpServer
from swarm.gateway.monitoring.status import Who
from swarm.identity import Identity
from swarm.node.local_cache import local_cache
from swarm.node.precision import local_precision
from swarm.trace import Trace
from swarm.transport.base import Network
from swarm.transport.probes.service import measure_round_trips


class Api:
    """`async with Api(...) as api`; `api.port`. Without a directory every layer is computed in this process."""

    def __init__(
        self,
        config: ApiConfig,
        *,
        mode: str,
        identity: Identity | None = None,
        directory: Directory | None = None,
        network: Network | None = None,
        client_config: ClientConfig | None = None,
        channel_config: ChannelConfig | None = None,
        trace: Trace | None = None,
        probe: Probe | None = measure_round_trips,
    ) -> None:
        self.config = config
        self._probe = probe
        self._mode = mode
        self._identity = identity
        self._directory = directory
        self._network = network
        self._client_config = client_config
        self._channel_config = channel_config
        self._trace = trace or Trace()
        self._stack = AsyncExitStack()
        self._server: HttpServer | None = None

    async def __aenter__(self) -> Self:
        """Raises UsageFault for an address that needs a key, PortInUse."""
        check_exposure(self.config.host, self.config.keys)
        async with AsyncExitStack() as stack:
            catalog = await stack.enter_async_context(
                Catalog(
                    self.config.models,
                    self._directory,
                    self._client_of(),
                    named=self.config.named,
                    probe=self._probe,
                    backend=self.config.backend,
                    cache_bytes=local_cache(self.config.device),
                    choose_precision=self._local_precision(),
                    trace=self._trace,
                )
            )
            who = Who(str(self._identity.peer_id) if self._identity else "", self._mode)
            gateway = Gateway(
                catalog,
                Keys(self.config.keys),
                Generator(special_tokens=self.config.special_tokens),
                trace=self._trace,
                who=who,
                origins=self.config.origins,
            )
            if self._directory is not None:
                gateway.now = self._directory.time
            place, leaving, ending = (
                (self.config.host, self.config.port),
                gateway.generator.bus.close,
                gateway.ending.set,
            )
            server = HttpServer(create_app(gateway), *place, leaving, ending, option=self.config.option)
            self._server = await stack.enter_async_context(server)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def url(self) -> str:
        if self._server is None:
            raise RuntimeError("the API is not running")
        host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
        return f"http://{host}:{self._server.port}"

    @property
    def tasks(self) -> tuple[asyncio.Task[None], ...]:
        return self._server.tasks if self._server else ()

    def _local_precision(self) -> LocalPrecision:
        """Of models that are computed here."""
        return local_precision(self.config.device, self.config.numerics)

    def _client_of(self) -> Callable[[Path], Client]:
        directory, device, backend = self._directory, self.config.device, self.config.backend
        if directory is None:
            cache_bytes = local_cache(device)
            choose = self._local_precision()
            return lambda path: Client(
                path,
                local=True,
                cache_bytes=cache_bytes,
                choose_precision=choose,
                device=device,
                backend=backend,
                numerics=self.config.numerics,
                trace=self._trace,
            )
        return lambda path: Client(
            path,
            device=device,
            backend=backend,
            identity=self._identity,
            network=self._network,
            directory=directory,
            now=directory.time,
            config=self._client_config,
            bans=self.config.bans,
            channel_config=self._channel_config,
            trace=self._trace,
        )
