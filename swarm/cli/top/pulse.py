"""Asks workers again and again how busy they are, over channels that stay open. Decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Self

from swarm.cli.status.survey import ASK_SECONDS, KEY_BYTES, MAX_ASKED_AT_ONCE, Health
from swarm.config import ChannelConfig
from swarm.errors import SwarmError
from swarm.identity import PeerId
from swarm.records import PeerRecord
from swarm.trace import Trace
from swarm.transport.base import Network
from swarm.transport.channels.channel import Channel
from swarm.transport.channels.dial import dial
from swarm.wire.messages import FetchRecords

MAX_OPEN = 256  # channels that stay open; further workers are dialled each time


class Pulse:
    """`async with Pulse(...) as pulse: pulse.watch(records)`; `health` then has the latest answer of each."""

    def __init__(self, network: Network, every: float, trace: Trace) -> None:
        self.health: dict[PeerId, Health] = {}
        self._network = network
        self._every = every  # seconds
        self._trace = trace
        self._records: dict[PeerId, PeerRecord] = {}
        self._asking: dict[PeerId, asyncio.Task[None]] = {}
        self._open = 0
        self._dialling = asyncio.Semaphore(MAX_ASKED_AT_ONCE)
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    def watch(self, records: Iterable[PeerRecord]) -> None:
        """From now on these, and nobody else."""
        self._records = {record.peer_id: record for record in records}
        for peer_id in self._asking.keys() - self._records.keys():
            self._asking.pop(peer_id).cancel()
            self.health.pop(peer_id, None)
        for peer_id in self._records.keys() - self._asking.keys():
            self._asking[peer_id] = asyncio.create_task(self._ask_on(peer_id), name=f"pulse of {peer_id.short}")
        for task in self._asking.values():
            if task.done() and not task.cancelled():
                task.result()  # it never ends by itself: a bug of ours

    async def settled(self, seconds: float) -> None:
        """Everybody answered, or did not in that time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._records.keys() - self.health.keys():
                    self._news.clear()
                    await self._news.wait()

    async def _ask_on(self, peer_id: PeerId) -> None:
        channel: Channel | None = None
        try:
            while True:
                try:
                    async with asyncio.timeout(ASK_SECONDS):
                        if channel is None or channel.closed:
                            channel = await self._dial(self._records[peer_id])
                        channel.ping()
                        await channel.request(FetchRecords(bytes(KEY_BYTES), 0))
                    told = Health(channel.load, channel.round_trip)
                except TimeoutError:
                    told = Health(None, None, f"no answer within {ASK_SECONDS:g} s")
                except SwarmError as error:
                    told = Health(None, None, str(error))
                if channel is not None and (told.error is not None or self._open > MAX_OPEN):
                    await self._close(channel)
                    channel = None
                self.health[peer_id] = told
                self._news.set()
                await asyncio.sleep(self._every)
        finally:
            if channel is not None:
                await self._close(channel)

    async def _dial(self, record: PeerRecord) -> Channel:
        async with self._dialling:
            channel = await dial(self._network, record.addresses, record.peer_id, ChannelConfig(), trace=self._trace)
        self._open += 1
        return channel

    async def _close(self, channel: Channel) -> None:
        self._open -= 1
        await channel.aclose()
