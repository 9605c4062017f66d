"""Why does nobody answer? A private swarm's directory is silent towards strangers; over TCP both sides see what the other is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence

from swarm.errors import NoSwarm, OtherKey, PeerLost
from swarm.transport.base import Network
from swarm.transport.tls.certificates import OtherSwarm
from swarm.transport.tls.network import TlsNetwork

KNOCK_SECONDS = 2.0
MAX_KNOCKS = 8  # bootstraps that are asked


async def diagnosed(joining: Awaitable[None], network: Network, bootstrap: Sequence[tuple[str, int]]) -> None:
    """Join a directory; where a bootstrap is silent because it is of another swarm, OtherKey is raised and says so."""
    try:
        await joining
    except NoSwarm as error:
        if not isinstance(network, TlsNetwork):
            raise
        said = await asyncio.gather(*(_ask(network, host, port) for host, port in bootstrap[:MAX_KNOCKS]))
        reasons = "; ".join(reason for reason in said if reason)
        if not reasons:
            raise
        raise OtherKey(f"the bootstrap does not answer this peer: {reasons}") from error


async def _ask(network: TlsNetwork, host: str, port: int) -> str | None:
    try:
        async with asyncio.timeout(KNOCK_SECONDS):
            stream = await network.meet(host, port)
    except PeerLost as error:
        return str(error) if isinstance(error.__cause__, OtherSwarm) else None
    except TimeoutError:
        return None
    stream.abort()
    return None
