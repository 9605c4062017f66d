"""Links of a chain, opened together and closed together: all or none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial

from swarm.client.hops.history import History
from swarm.client.hops.session import HopSession
from swarm.client.peers import Peers
from swarm.config import ClientConfig
from swarm.errors import ProtocolFault, SwarmError
from swarm.records import ModelRef
from swarm.routing.chain import Hop


async def open_hop_sessions(
    hops: Iterable[Hop],
    peers: Peers,
    model: ModelRef,
    precision: str,
    config: ClientConfig,
    max_rows: int,
    inputs: History,
) -> list[HopSession]:
    """Links to all hops, opened at once; the first one takes over `inputs`. Raises HopFault for those that failed or, where the
    client insists on exactness, compute in another numerics class than they announced."""
    links = await gather_hop_sessions(
        [
            (hop, partial(HopSession.open, hop, peers, model, precision, max_rows, History() if index else inputs))
            for index, hop in enumerate(hops)
        ]
    )
    others = [
        (link.hop, ProtocolFault(f"computes in {link.numerics}, and announced {link.hop.numerics}"))
        for link in links
        if config.exact and link.numerics != link.hop.numerics
    ]
    if others:
        await close_hop_sessions(links)
        raise HopFault(others)
    return links


async def gather_hop_sessions(opening: Sequence[tuple[Hop, Callable[[], Awaitable[HopSession]]]]) -> list[HopSession]:
    """These links, opened at once; all or none. Raises HopFault for those that failed."""
    links: list[HopSession] = []
    failures: list[tuple[Hop, SwarmError]] = []

    async def open_one(hop: Hop, link: Callable[[], Awaitable[HopSession]]) -> HopSession | None:
        try:
            opened = await link()
        except SwarmError as error:
            failures.append((hop, error))
            return None
        links.append(opened)
        return opened

    whole = False
    try:
        opened = await asyncio.gather(*(open_one(*each) for each in opening), return_exceptions=True)
        for each in opened:
            if isinstance(each, BaseException):
                raise each  # a bug of ours
        whole = not failures
    finally:
        if not whole:  # also when the caller gives up: what is open by then would keep its caches until its lease ends
            await close_hop_sessions(links)
    if failures:
        raise HopFault(failures)
    return [link for link in opened if isinstance(link, HopSession)]


async def close_hop_sessions(links: Iterable[HopSession]) -> None:
    await asyncio.gather(*(link.close() for link in links))


class HopFault(Exception):
    """Which hops errors belong to. Never leaves the session."""

    def __init__(self, failures: Sequence[tuple[Hop, SwarmError]]) -> None:
        super().__init__("; ".join(f"{hop.peer_id.short}: {error}" for hop, error in failures))
        self.failures = tuple(failures)
