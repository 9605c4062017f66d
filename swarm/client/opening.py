"""Opens a session over a chain: waits for one to exist, has the head of its precision loaded, opens the hops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from swarm.client.auditor import Auditor
from swarm.client.heads import Heads
from swarm.client.peers import Peers
from swarm.client.resolver import Resolver
from swarm.client.session import ChainSession
from swarm.config import ClientConfig
from swarm.errors import DeadlineExceeded, NoChain
from swarm.routing.chain import Chain
from swarm.span import name_layers
from swarm.trace import Trace


@asynccontextmanager
async def open_chain(
    resolver: Resolver,
    peers: Peers,
    config: ClientConfig,
    trace: Trace,
    max_rows: int,
    heads_for: Callable[[str], Awaitable[Heads]],
    auditor: Auditor | None = None,
) -> AsyncIterator[tuple[ChainSession, Heads]]:
    """A session with room for `max_rows` and the head that belongs to it.

    Raises NoChain when layers are missing for longer than `open_seconds`, DeadlineExceeded, WrongModel, AuditFault.
    """
    chain = await _wait_for_chain(resolver, config, trace)
    precision = resolver.precision_of(chain)
    heads = await heads_for(precision)
    async with ChainSession(resolver, peers, config, trace, chain, precision, max_rows, auditor) as session:
        yield session, heads


async def _wait_for_chain(resolver: Resolver, config: ClientConfig, trace: Trace) -> Chain:
    hole: NoChain | None = None
    try:
        async with asyncio.timeout(config.open_seconds) as waiting:
            while True:
                try:
                    return await resolver.first_chain()
                except NoChain as found:
                    hole = found
                trace.failed("session.wait", missing=name_layers(hole.missing), reason=str(hole))
                await asyncio.sleep(config.retry_seconds)
    except TimeoutError:
        if not waiting.expired():
            raise
        if hole is not None:
            raise hole from None
        raise DeadlineExceeded(f"waited {config.open_seconds:g} s for the directory to say who serves layers") from None
