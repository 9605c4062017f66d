"""Directories on a `UdpSwitch`, in virtual time: `async with Dht(seed) as dht`, then `await dht.grow(30)`."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from random import Random

from support.announcements import identity
from support.udp_switch import UdpSwitch

from swarm.config import DirectoryConfig
from swarm.discovery import Directory

PORT = 7700


class Dht:
    """`nodes` are the directories that joined, the bootstrap first."""

    def __init__(self, seed: int = 1, *, delay: float = 0.02, loss: float = 0.0, config: DirectoryConfig | None = None):
        self.random = Random(seed)
        self.switch = UdpSwitch(seed, delay, loss)
        self.config = config or DirectoryConfig()
        self.nodes: list[Directory] = []
        self._stack = AsyncExitStack()
        self._number = 1000 * seed

    async def __aenter__(self) -> Dht:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def make(self, *, number: int | None = None, host: str | None = None, first: bool = False, **options) -> Directory:
        """Not started. Node `n` has key `n` and its own host."""
        self._number += 1
        number = self._number if number is None else number
        host = host or self.host(number)
        settings = {
            "host": host,
            "port": PORT,
            "bootstrap": [] if first else [(self.bootstrap, PORT)],
            "config": self.config,
            "now": self.now,
            "random": Random(self.random.random()),
            "open_socket": self.switch.opener(host),
        }
        return Directory(identity(number), **{**settings, **options})

    @staticmethod
    def host(number: int) -> str:
        return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"

    @property
    def bootstrap(self) -> str:
        return self.nodes[0].host

    async def start(self, **options) -> Directory:
        """One more, joined; not among `nodes` if it is passive."""
        node = await self._stack.enter_async_context(self.make(first=not self.nodes, **options))
        if not options.get("passive"):
            self.nodes.append(node)
        await node.join()
        return node

    async def grow(self, count: int) -> list[Directory]:
        return [await self.start() for _ in range(count)]

    async def client(self, **options) -> Directory:
        return await self.start(passive=True, **options)
