"""An in-process network of UDP sockets for tests: delay, loss, death and partitions; seeded; works in virtual time.

`switch.opener("10.0.0.1")` is what `Directory(open_socket=...)` takes. Every host has its own address.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random


class UdpSwitch:
    """Carries datagrams between sockets. `delay`: seconds one way; `loss`: the part of datagrams that vanish."""

    def __init__(self, seed: int, delay: float = 0.02, loss: float = 0.0) -> None:
        self.random = Random(seed)
        self.delay, self.loss = delay, loss
        self.sockets: dict[tuple[str, int], SwitchedSocket] = {}
        self.cut_hosts: set[str] = set()  # reach nobody and are reached by nobody
        self.carried: Counter[str] = Counter()  # datagrams sent, by the host that sent them
        self._next_port = 20000

    def opener(self, host: str):
        async def open_socket(receiver, _host: str, port: int) -> SwitchedSocket:
            self._next_port += 1
            opened = SwitchedSocket(self, receiver, host, port or self._next_port)
            self.sockets[host, opened.port] = opened
            return opened

        return open_socket

    def kill(self, host: str) -> None:
        """Without notice, as a machine that loses power."""
        self.cut_hosts.add(host)

    def heal(self, host: str) -> None:
        self.cut_hosts.discard(host)

    def carry(self, data: bytes, source: tuple[str, int], to: tuple[str, int]) -> None:
        self.carried[source[0]] += 1
        if self.random.random() >= self.loss:
            seconds = self.delay * self.random.uniform(0.8, 1.2)
            asyncio.get_running_loop().call_later(seconds, self._arrive, data, source, to)

    def _arrive(self, data: bytes, source: tuple[str, int], to: tuple[str, int]) -> None:
        receiving = self.sockets.get(to)
        if receiving is not None and not {source[0], to[0]} & self.cut_hosts:
            receiving.receiver.received(data, source)


class SwitchedSocket:
    def __init__(self, switch: UdpSwitch, receiver, host: str, port: int) -> None:
        self.switch, self.receiver, self.host, self.port = switch, receiver, host, port

    def send(self, data: bytes, to: tuple[str, int]) -> bool:
        self.switch.carry(data, (self.host, self.port), to)
        return True

    def reaches(self, host: str) -> bool:
        return True

    def close(self) -> None:
        if self.switch.sockets.get((self.host, self.port)) is self:
            del self.switch.sockets[self.host, self.port]
