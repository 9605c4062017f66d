"""Opens a session over a chain: waits for one to exist, has the head of its precision loaded, opens the hops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from swarm.client.audits.auditor import Auditor
from swarm.client.heads import Heads
from swarm.client.peers import Peers
from swarm.client.prefixes.cache import LEAST_ROWS, PrefixCache, Prompt
from swarm.client.resolver import Resolver
from swarm.client.room import Room
from swarm.client.session import ChainSession
from swarm.config import ClientConfig
from swarm.engine.numerics import arithmetic_of
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
    room: Room,
    heads_for: Callable[[str, str], Awaitable[Heads]],
    auditor: Auditor | None = None,
    kept: PrefixCache | None = None,
    prompt: Prompt | None = None,
) -> AsyncIterator[tuple[ChainSession, Heads]]:
    """A session with room for its prompt at least, and the head that belongs to it.

    With `kept` it may hold the first rows of its prompt already, and others may begin with its rows.

    Raises NoChain when layers are missing for longer than `open_seconds`, Overloaded when it is room for them, NoRoom at once
    when no chain could ever hold the prompt, DeadlineExceeded, WrongModel, AuditFault.
    """
    begun = None
    if kept is not None and prompt is not None:
        begun = await kept.branch(prompt, room, heads_for)
    if begun is not None:
        stem, heads = begun
        session = ChainSession(resolver, peers, config, trace, None, stem.precision, room, auditor, stem)
    else:
        chain = await _wait_for_chain(resolver, peers, config, trace, room)
        precision = resolver.precision_of(chain)
        heads = await heads_for(precision, arithmetic_of(chain.numerics))
        session = ChainSession(resolver, peers, config, trace, chain, precision, room, auditor)
    if kept is None or prompt is None:
        async with session:
            yield session, heads
        return
    parent = kept.begin(prompt, session)
    try:
        async with session:
            try:
                yield session, heads
            finally:
                held = session.stem if prompt.answered() else None
                session.keep = held is not None and held.rows >= LEAST_ROWS
    finally:
        kept.end(parent, session.kept)


async def _wait_for_chain(resolver: Resolver, peers: Peers, config: ClientConfig, trace: Trace, room: Room) -> Chain:
    hole: NoChain | None = None
    try:
        async with asyncio.timeout(config.open_seconds) as waiting:
            while True:
                try:
                    return await resolver.first_chain(room.wishes())
                except NoChain as found:
                    hole = found
                trace.failed("session.wait", missing=name_layers(hole.missing), reason=str(hole))
                await asyncio.sleep(config.retry_seconds)
    except TimeoutError:
        if not waiting.expired():
            raise
        if hole is not None:
            raise peers.full(hole.missing) or hole from None
        raise DeadlineExceeded(f"waited {config.open_seconds:g} s for the directory to say who serves layers") from None
