"""A userland switch: IP packets between the devices of hosts, each behind its weather, any pair of them cut apart at will.

All traffic is alike here: what the weather loses is lost for TCP too, and the kernels of both ends see to it. Packets from one
host to another stay in their order, as in a router's queue, unless the weather overtakes them. Knows nothing of namespaces: a
device is a file descriptor that gives and takes whole packets.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

from chaos.network.weather import Lanes

PACKET_BYTES = 1 << 16
READ_PACKETS = 64  # of one device, before the others have their turn
MAX_IN_FLIGHT = 20_000  # packets; beyond, more are lost
STEP_SECONDS = 1e-6  # between two packets that would arrive at the same time, so that they stay in order
VERSION_4 = 4


@dataclass(slots=True)
class Port:
    """Where a host is plugged in."""

    name: str
    address: bytes
    device: int  # file descriptor
    lanes: Lanes


class Switch:
    """`attach` hosts; `cut` and `join` pairs of them; `close` when they are gone."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()  # packets: forwarded, lost, cut, stray
        self._ports: dict[bytes, Port] = {}
        self._cuts: set[tuple[str, str]] = set()  # from, to
        self._last: dict[tuple[str, str], float] = {}  # when the last packet from one to another arrives
        self._in_flight = 0

    def attach(self, name: str, address: str, device: int, lanes: Lanes) -> None:
        """A host with this IPv4 address. The device must not block."""
        port = Port(name, socket.inet_aton(address), device, lanes)
        self._ports[port.address] = port
        asyncio.get_running_loop().add_reader(device, self._read, port)

    def cut(self, source: str, to: str) -> None:
        """Nothing passes this way, and nobody is told."""
        self._cuts.add((source, to))

    def join(self, source: str, to: str) -> None:
        self._cuts.discard((source, to))

    def close(self) -> None:
        """Read no more; what is on its way is lost. The devices stay open."""
        for port in self._ports.values():
            asyncio.get_running_loop().remove_reader(port.device)
        self._ports.clear()

    def _read(self, port: Port) -> None:
        for _ in range(READ_PACKETS):
            try:
                packet = os.read(port.device, PACKET_BYTES)
            except OSError:  # nothing more for now, or the device is down
                return
            self._forward(port, packet)

    def _forward(self, source: Port, packet: bytes) -> None:
        to = self._ports.get(packet[16:20]) if packet and packet[0] >> 4 == VERSION_4 else None
        if to is None:
            self.counters["stray"] += 1
            return
        if (source.name, to.name) in self._cuts:
            self.counters["cut"] += 1
            return
        now = asyncio.get_running_loop().time()
        lanes = (source.lanes.back, to.lanes.to)
        if self._in_flight >= MAX_IN_FLIGHT or any(lane.drops(now) for lane in lanes):
            self.counters["lost"] += 1
            return
        at, copies = now, [0.0]
        for lane in lanes:
            packet = lane.damaged(packet)
            at += lane.due(len(packet), now) - now
            copies = [late + more for late in copies for more in lane.copies()]
        pair = (source.name, to.name)
        at = self._last[pair] = max(at, self._last.get(pair, 0.0) + STEP_SECONDS)
        for late in copies:
            self._deliver_at(at + late, to, packet)

    def _deliver_at(self, at: float, to: Port, packet: bytes) -> None:
        loop = asyncio.get_running_loop()
        if at <= loop.time():
            self._deliver(to, packet)
            return
        self._in_flight += 1
        loop.call_at(at, self._arrive, to, packet)

    def _arrive(self, to: Port, packet: bytes) -> None:
        self._in_flight -= 1
        self._deliver(to, packet)

    def _deliver(self, to: Port, packet: bytes) -> None:
        if to.address not in self._ports:
            return
        with suppress(OSError):  # its queue is full, or it is down: the packet is lost
            os.write(to.device, packet)
            self.counters["forwarded"] += 1

    def __repr__(self) -> str:
        return f"<switch of {len(self._ports)} hosts, {self._in_flight} packets under way, {dict(self.counters)}>"
