"""Tells a peer whether it can be reached from here: dials back, to the very host that it asked from and to no other.

Nobody can have a third machine dialled, and what is sent there is one connection and one small datagram for each request.
"""

from __future__ import annotations

import asyncio

from swarm.config import ChannelConfig
from swarm.errors import Overloaded, PeerFault, PortInUse, UsageFault
from swarm.records import Address
from swarm.trace import Trace
from swarm.transport.base import Network
from swarm.transport.channels.dial import dial
from swarm.transport.channels.responses import Exchange
from swarm.transport.probes.service import measure_round_trips
from swarm.wire.messages import DialBack, DialledBack

MAX_AT_ONCE = 8  # peers that are dialled back
PROBES, PROBE_SECONDS = 1, 1.0
RETRY_SECONDS = 5.0


class Back:
    """`answer` is the handler of `DialBack`."""

    def __init__(self, network: Network, config: ChannelConfig, trace: Trace) -> None:
        self._network = network
        self._config = config
        self._trace = trace
        self._under_way = 0

    async def answer(self, message: DialBack, exchange: Exchange) -> DialledBack:
        """Within `connect_seconds`. Raises UsageFault for a port that is none, Overloaded."""
        if not message.data:
            raise UsageFault("port 0 cannot be dialled")
        if self._under_way >= MAX_AT_ONCE:
            raise Overloaded(f"{MAX_AT_ONCE} peers are being dialled back already", RETRY_SECONDS)
        address = Address(exchange.channel.host, message.data, 0, message.probe)
        self._under_way += 1
        try:
            fault, probed = await asyncio.gather(self._dial(address, exchange), self._probe(address))
        finally:
            self._under_way -= 1
        self._trace.complete("node.dial_back", peer=exchange.peer_id.short, fault=fault, probed=probed)
        return DialledBack(address.host, fault, probed)

    async def _dial(self, address: Address, exchange: Exchange) -> str:
        try:
            channel = await dial(self._network, [address], exchange.peer_id, self._config, trace=self._trace)
        except PeerFault as error:
            return str(error)
        await channel.aclose()
        return ""

    async def _probe(self, address: Address) -> bool:
        if not address.probe:
            return False
        try:
            return bool(await measure_round_trips([address], PROBES, PROBE_SECONDS))
        except (OSError, PortInUse, UsageFault) as error:  # no socket to probe with
            self._trace.failed("node.dial_back", error=str(error))
            return False
