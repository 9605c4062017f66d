"""An in-process network of UDP sockets: delay, loss, duplication, reordering, damage, death, pauses and cuts.

Seeded, in virtual time. `switch.opener("10.0.0.1")` is what `Directory(open_socket=...)` takes. Every host has its own address.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

from swarm.discovery.addresses import Endpoint
from swarm.discovery.endpoint import OpenSocket, Receiver

FIRST_PORT = 20000
MAX_QUEUED = 256  # datagrams that a paused host's socket keeps; the newest are dropped, as a kernel does


class UdpSwitch:
    """Carries datagrams between sockets."""

    def __init__(self, seed: int | str, delay: float = 0.02, loss: float = 0.0) -> None:
        self.random = Random(seed)
        self.delay = delay  # seconds one way
        self.loss = loss  # the part of datagrams that vanish
        self.duplication = 0.0  # the part that arrives twice
        self.damage = 0.0  # the part in which a bit is flipped, or that is cut short
        self.jitter = 0.0  # seconds at most that one may lag behind, so that others overtake it
        self.slowed: dict[str, float] = {}  # by host: seconds more, each way
        self.sockets: dict[Endpoint, SwitchedSocket] = {}
        self.cut_hosts: set[str] = set()  # reach nobody and are reached by nobody
        self.carried: Counter[str] = Counter()  # datagrams sent, by the host that sent them
        self.carried_bytes: Counter[str] = Counter()
        self._cut: set[tuple[str, str]] = set()  # from whom nothing comes to whom
        self._paused: dict[str, list[tuple[bytes, Endpoint, Endpoint]]] = {}  # by host: what came meanwhile
        self._next_port = FIRST_PORT

    def opener(self, host: str) -> OpenSocket:
        async def open_socket(receiver: Receiver, _host: str, port: int) -> SwitchedSocket:
            self._next_port += 1
            opened = SwitchedSocket(self, receiver, host, port or self._next_port)
            self.sockets[host, opened.port] = opened
            return opened

        return open_socket

    def kill(self, host: str) -> None:
        """Without notice, as a machine that loses power."""
        self.cut_hosts.add(host)
        self._paused.pop(host, None)

    def heal(self, host: str) -> None:
        self.cut_hosts.discard(host)

    def cut(self, one: str, other: str, *, both: bool = True) -> None:
        """No datagram comes from the one to the other."""
        self._cut.add((one, other))
        if both:
            self._cut.add((other, one))

    def mend(self, one: str, other: str) -> None:
        self._cut -= {(one, other), (other, one)}

    def pause(self, host: str) -> None:
        """As SIGSTOP: datagrams wait in the socket."""
        self._paused.setdefault(host, [])

    def resume(self, host: str) -> None:
        for datagram in self._paused.pop(host, ()):
            self._arrive(*datagram)

    def carry(self, data: bytes, source: Endpoint, to: Endpoint) -> None:
        self.carried[source[0]] += 1
        self.carried_bytes[source[0]] += len(data)
        if self.random.random() < self.loss:
            return
        if self.damage and self.random.random() < self.damage:
            data = damaged(data, self.random)
        copies = 2 if self.duplication and self.random.random() < self.duplication else 1
        for _ in range(copies):
            seconds = self.delay * self.random.uniform(0.8, 1.2)
            if self.jitter:
                seconds += self.random.uniform(0.0, self.jitter)
            if self.slowed:
                seconds += self.slowed.get(source[0], 0.0) + self.slowed.get(to[0], 0.0)
            asyncio.get_running_loop().call_later(seconds, self._arrive, data, source, to)

    def _arrive(self, data: bytes, source: Endpoint, to: Endpoint) -> None:
        receiving = self.sockets.get(to)
        if receiving is None or source[0] in self.cut_hosts or to[0] in self.cut_hosts:
            return
        if (source[0], to[0]) in self._cut:
            return
        waiting = self._paused.get(to[0])
        if waiting is None:
            receiving.receiver.received(data, source)
        elif len(waiting) < MAX_QUEUED:
            waiting.append((data, source, to))


def damaged(data: bytes, random: Random) -> bytes:
    """With one bit flipped, or cut short."""
    place = random.randrange(len(data))
    if random.random() < 0.3:
        return data[:place]
    return data[:place] + bytes([data[place] ^ 1 << random.randrange(8)]) + data[place + 1 :]


class SwitchedSocket:
    """One socket on the switch."""

    def __init__(self, switch: UdpSwitch, receiver: Receiver, host: str, port: int) -> None:
        self.switch, self.receiver, self.host, self.port = switch, receiver, host, port
        self.closed = False

    def send(self, data: bytes, to: Endpoint) -> bool:
        if not self.closed:
            self.switch.carry(data, (self.host, self.port), to)
        return True

    def reaches(self, host: str) -> bool:
        return True

    def close(self) -> None:
        self.closed = True
        if self.switch.sockets.get((self.host, self.port)) is self:
            del self.switch.sockets[self.host, self.port]
