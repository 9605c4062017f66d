"""What the processes of a simulated swarm find when they start: networks in virtual time, settings, a model, a trace."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from chaos.simulation.datagrams import UdpSwitch
from chaos.simulation.model import Prepared
from swarm.config import ChannelConfig, ClientConfig, DirectoryConfig, WorkerConfig
from swarm.discovery.addresses import Endpoint
from swarm.span import LayerSpan
from swarm.trace import Trace
from swarm.transport.in_process import MemoryNetwork

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Topology:
    """Who takes part. Workers are named w0, w1, …, clients c0, c1, …; the bootstrap is b0."""

    workers: tuple[tuple[LayerSpan, str], ...]  # layers and precision
    clients: tuple[str, ...]  # precision
    latency: float = 0.002  # seconds one way, streams and datagrams
    step_seconds: float = 0.1  # that a worker computes for one call
    audit_share: float = 0.0  # of sessions
    direct: bool = True  # workers hand rows to each other
    standby: bool = False  # each worker of a session has another beside it, where there is one


class Surroundings:
    """Knows nothing of who lives in them, but for where the bootstrap is."""

    bootstrap: Endpoint

    def __init__(self, seed: int, topology: Topology, prepared: Prepared, trace: Trace) -> None:
        self.seed, self.topology, self.prepared, self.trace = seed, topology, prepared, trace
        self.client_config = ClientConfig(
            deadline_seconds=30.0,
            open_seconds=15.0,
            retry_seconds=1.0,
            audit_share=topology.audit_share,
            direct=topology.direct,
            standby=topology.standby,
        )
        self.worker_config = WorkerConfig()
        self.channel_config = ChannelConfig()
        self.directory_config = DirectoryConfig()
        self.hub = MemoryNetwork(latency=topology.latency)
        self.switch = UdpSwitch(f"{seed} datagrams", delay=topology.latency)
        self.liars: set[str] = set()  # workers that lied at any time
        self._tasks: dict[asyncio.Task[Any], None] = {}

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Something that goes on beside everything else; `settled` waits for it."""
        task = asyncio.create_task(work)
        self._tasks[task] = None
        return task

    async def settled(self) -> None:
        """Everything that was set in motion has ended. Raises what any of it raised."""
        while self._tasks:
            tasks, self._tasks = list(self._tasks), {}
            await asyncio.gather(*tasks)
