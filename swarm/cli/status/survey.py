"""What a swarm's directory holds, and how busy its workers are. Loads no torch."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from swarm.cli.bootstrap import need_bootstrap
from swarm.cli.keys import known_peers_file
from swarm.config import ChannelConfig
from swarm.discovery import Directory
from swarm.errors import SwarmError, UsageFault, VersionMismatch
from swarm.identity import Identity, PeerId
from swarm.records import PeerRecord, still_here
from swarm.trace import Trace
from swarm.transport.channels.dial import dial
from swarm.transport.tls.diagnosis import diagnosed
from swarm.transport.tls.network import TlsNetwork
from swarm.wire.messages import FetchRecords, Load

MAX_ASKED_AT_ONCE = 32
ASK_SECONDS = 5.0
KEY_BYTES = 20  # of a directory's key


@dataclass(frozen=True, slots=True)
class Health:
    """What a worker answered."""

    load: Load | None  # None: no answer
    round_trip: float | None  # seconds, of a Ping on an open channel
    error: str | None = None
    other_version: bool = False  # is what the error tells


@asynccontextmanager
async def joined(
    identity: Identity, bootstrap: Sequence[tuple[str, int]], swarm_key: bytes | None, trace: Trace
) -> AsyncIterator[Directory]:
    """A directory that only asks. Raises NoSwarm."""
    async with Directory(
        identity,
        host="::",
        port=0,
        bootstrap=bootstrap,
        swarm_key=swarm_key,
        known_peers=known_peers_file(bootstrap, swarm_key, os.environ),
        passive=True,
        trace=trace,
    ) as directory:
        await diagnosed(directory.join(), TlsNetwork(identity, swarm_key=swarm_key), bootstrap)
        yield directory


async def survey(
    identity: Identity, bootstrap: Sequence[tuple[str, int]], swarm_key: bytes | None, trace: Trace
) -> list[PeerRecord]:
    """Every worker's record. Raises NoSwarm, UsageFault."""
    need_bootstrap(bootstrap)
    async with joined(identity, bootstrap, swarm_key, trace) as directory:
        return still_here(signed.record for signed in await directory.lookup_all())


async def examine(
    identity: Identity, records: Iterable[PeerRecord], swarm_key: bytes | None, trace: Trace
) -> dict[PeerId, Health]:
    """Ask every worker how busy it is."""
    records = tuple(records)
    network = TlsNetwork(identity, swarm_key=swarm_key)
    gate = asyncio.Semaphore(MAX_ASKED_AT_ONCE)

    async def ask(record: PeerRecord) -> Health:
        try:
            async with gate, asyncio.timeout(ASK_SECONDS):
                return await _ask(network, record, trace)
        except TimeoutError:
            return Health(None, None, f"no answer within {ASK_SECONDS:g} s")
        except SwarmError as error:
            return Health(None, None, str(error), isinstance(error, VersionMismatch))

    answers = await asyncio.gather(*map(ask, records))
    return {record.peer_id: health for record, health in zip(records, answers, strict=True)}


async def _ask(network: TlsNetwork, record: PeerRecord, trace: Trace) -> Health:
    """A channel pings as soon as it is open, and a node answers in order: after any reply the Pong has been here."""
    channel = await dial(network, record.addresses, record.peer_id, ChannelConfig(), trace=trace)
    try:
        await channel.request(FetchRecords(bytes(KEY_BYTES), 0))
        return Health(channel.load, channel.round_trip)
    finally:
        await channel.aclose()


def named_peers(wanted: Iterable[str], records: Iterable[PeerRecord]) -> tuple[PeerId, ...]:
    """Peers by their whole id, or by the first digits of it where only one worker's id begins so. Raises UsageFault."""
    known = [record.peer_id for record in records]
    found = []
    for text in wanted:
        if len(text) == 64:
            found.append(PeerId.parse(text))
            continue
        fitting = [peer_id for peer_id in known if peer_id.hex().startswith(text)]
        if len(fitting) != 1:
            who = f"{len(fitting)} workers have" if fitting else "no worker has"
            raise UsageFault(f"{who} an id that begins with {text}: see `swarm status`")
        found.append(fitting[0])
    return tuple(found)
