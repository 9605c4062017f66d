"""Asks others whether they reach this machine: listens where a node would, unless one does already, and has them dial back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

from swarm.config import ChannelConfig
from swarm.discovery.endpoint import resolve
from swarm.errors import PortInUse, SwarmError, UsageFault
from swarm.trace import Trace
from swarm.transport.channels.channel import Channel, Exchange, Terms
from swarm.transport.channels.server import ChannelServer
from swarm.transport.probes.service import ProbeServer
from swarm.transport.tls.network import TlsNetwork
from swarm.wire.connection import Role
from swarm.wire.messages import DialBack, DialledBack, Message

MAX_ASKED = 3  # bootstraps
ASK_SECONDS = 8.0


async def dialled_back(
    network: TlsNetwork, bootstrap: Sequence[tuple[str, int]], host: str, data: int, probe: int
) -> dict[str, DialledBack | str]:
    """What each of the bootstraps says, by its name; in words why it says nothing."""
    async with AsyncExitStack() as stack:
        for listening in (
            ChannelServer(network, host, data, _no_answer, ChannelConfig(), Trace()),
            ProbeServer(host, probe),
        ):
            try:
                await stack.enter_async_context(listening)
            except PortInUse:  # by the node that this is about, or by a program for which it will not prove its key
                continue
        found = await resolve(bootstrap[:MAX_ASKED])
        places = {f"{name} port {port}": found[name, port] for name, port in bootstrap[:MAX_ASKED]}
        said = await asyncio.gather(*(_ask(network, place, data, probe) for place in places.values()))
    return dict(zip(places, said, strict=True))


async def _no_answer(message: Message, exchange: Exchange) -> Message:
    raise UsageFault("this is no node, but somebody who looks whether one could be here")


async def _ask(network: TlsNetwork, places: Sequence[tuple[str, int]], data: int, probe: int) -> DialledBack | str:
    if not places:
        return "there is no such host"
    try:
        async with asyncio.timeout(ASK_SECONDS):
            channel = Channel(await network.meet(*places[0]), Role.DIALLER, Terms(ChannelConfig(), Trace()))
            channel.start()
            try:
                await channel.greeted()
                reply = await channel.request(DialBack(data, probe))
            finally:
                await channel.aclose()
    except TimeoutError:
        return f"it said nothing for {ASK_SECONDS:g} s"
    except SwarmError as error:
        return str(error)
    return reply if isinstance(reply, DialledBack) else f"it answered with {type(reply).__name__}"
