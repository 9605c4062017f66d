"""A whole swarm in one process: real directories, workers, channels and sessions over in-process networks, in virtual time.

Only what touches the machine is replaced: sockets, the compute thread, and TLS (a damaged stream ends, as TLS would have
it). Which faults befall it, and what is asked of it, is decided elsewhere.
"""

from __future__ import annotations

import asyncio
from typing import TypeVar

from chaos.simulation.model import Prepared
from chaos.simulation.peers import BOOTSTRAP, PORT, Asker, Peer, Worker
from chaos.simulation.surroundings import Surroundings, Topology
from swarm.trace import Event, Trace

P = TypeVar("P", bound=Peer)


class World(Surroundings):
    """`async with World(seed, topology, prepared()) as world`."""

    def __init__(self, seed: int, topology: Topology, prepared: Prepared) -> None:
        super().__init__(seed, topology, prepared, Trace(self._note))
        self.events: list[str] = []  # everything that was traced, with its virtual time
        self.peers: dict[str, Peer] = {}
        self.banned: list[str] = []  # by whomever, in their order
        self.asked = ""  # the worker to whom a client sent rows last
        self._steps = 0  # how often one did
        self._awaited: list[tuple[int, asyncio.Future[None]]] = []  # steps that somebody waits for
        self._began = 0.0
        numbers = iter(range(1, 1000))
        self.bootstrap = self.add(Peer(self, BOOTSTRAP, next(numbers))).host, PORT
        self.workers = [
            self.add(Worker(self, f"w{index}", next(numbers), *each)) for index, each in enumerate(topology.workers)
        ]
        self.askers = [
            self.add(Asker(self, f"c{index}", next(numbers), each)) for index, each in enumerate(topology.clients)
        ]

        self._names = {peer.peer_id.short: name for name, peer in self.peers.items()}

    def add(self, peer: P) -> P:
        self.peers[peer.name] = peer
        return peer

    async def __aenter__(self) -> World:
        self._began = asyncio.get_running_loop().time()
        for peer in self.peers.values():
            await peer.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        for peer in reversed(self.peers.values()):
            await peer.stop()
        await self.settled()

    @property
    def time(self) -> float:
        """Virtual seconds since the beginning."""
        return asyncio.get_running_loop().time() - self._began

    def worker(self, name: str) -> Worker:
        peer = self.peers[name]
        assert isinstance(peer, Worker)
        return peer

    def note(self, text: str) -> None:
        self.events.append(f"{self.time:10.6f} {text}")

    async def step(self, number: int) -> None:
        """Until clients have sent rows to workers so many times."""
        if self._steps < number:
            reached = asyncio.get_running_loop().create_future()
            self._awaited.append((number, reached))
            await reached

    def no_more_steps(self) -> None:
        """Who waits for a step that does not come goes on."""
        for _, reached in self._awaited:
            reached.cancel()

    def _note(self, event: Event) -> None:
        self.note(str(event))
        if event.name == "peers.ban" and event.phase == "complete":
            self.banned.append(self._names[event.details["peer"]])
        if event.name == "hop.forward" and event.phase == "started":
            self._steps += 1
            self.asked = self._names[event.details["peer"]]
            for number, reached in self._awaited:
                if number == self._steps and not reached.done():
                    reached.set_result(None)
