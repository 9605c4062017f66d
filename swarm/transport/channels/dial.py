"""A greeted channel to a peer, by whichever of its addresses answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from swarm.config import ChannelConfig
from swarm.errors import PeerLost
from swarm.identity import PeerId
from swarm.records import Address
from swarm.trace import Trace
from swarm.transport.base import Network
from swarm.transport.channels.channel import Channel, Terms
from swarm.transport.channels.responses import Handler
from swarm.wire.connection import Role
from swarm.wire.messages import Goodbye, Load

SLOW_ROUND_TRIPS = 6.0  # that TCP, TLS and both Hellos may take, where that is longer than usual: twice what they need
MAX_CONNECT_SECONDS = 20.0  # however slow the link


async def dial(
    network: Network,
    addresses: Sequence[Address],
    expect: PeerId,
    config: ChannelConfig,
    trace: Trace | None = None,
    handler: Handler | None = None,
    load: Callable[[], Load] | None = None,
    on_goodbye: Callable[[Channel, Goodbye], None] | None = None,
) -> Channel:
    """A greeted channel to the peer `expect`, by the first of its addresses that works, within `connect_seconds` in all; over a
    link whose round trip is long, within SLOW_ROUND_TRIPS of them.

    Raises PeerLost naming every address with its reason, ProtocolFault, or VersionMismatch.
    """
    loop = asyncio.get_running_loop()
    terms = Terms(config, trace or Trace(), handler, load, on_goodbye=on_goodbye)
    deadline = loop.time() + config.connect_seconds
    failures: list[str] = []
    for index, address in enumerate(addresses):
        began = loop.time()
        patience = asyncio.timeout((deadline - began) / (len(addresses) - index))
        try:
            async with patience:
                return await _dial_one(network, address, expect, terms, partial(_be_patient, patience, began))
        except TimeoutError:
            failures.append(f"{address} did not answer within {loop.time() - began:.1f} s")
        except PeerLost as error:
            failures.append(str(error) if str(address) in str(error) else f"{address}: {error}")
    raise PeerLost(f"peer {expect.short} cannot be reached: {'; '.join(failures) or 'it has no address'}")


def _be_patient(patience: asyncio.Timeout, began: float) -> None:
    """Its machine answered. If that took long so will the rest; who does not answer at all is given up as soon as ever."""
    round_trip = asyncio.get_running_loop().time() - began
    when = patience.when()
    if when is not None:
        patience.reschedule(max(when, began + min(SLOW_ROUND_TRIPS * round_trip, MAX_CONNECT_SECONDS)))


async def _dial_one(
    network: Network, address: Address, expect: PeerId, terms: Terms, reached: Callable[[], None]
) -> Channel:
    stream = await network.connect(address, expect, reached)
    channel = Channel(stream, Role.DIALLER, terms)
    channel.start()
    try:
        await channel.greeted()
    except asyncio.CancelledError:
        channel.abort("it did not say Hello in time")
        raise
    return channel
