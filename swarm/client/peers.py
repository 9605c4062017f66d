"""The peers a client talks to: one channel each, what was measured of them, and whom to avoid for a while.

Suspicion is about choosing, not about guilt: a peer that failed is left alone while another can do its work.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from weakref import WeakValueDictionary

from swarm.client.failover.interference import Interference
from swarm.config import ChannelConfig, ClientConfig
from swarm.errors import LayerRange, Overloaded, PeerLost, PortInUse, UsageFault
from swarm.identity import Identity, PeerId
from swarm.records import Address, PeerRecord
from swarm.routing.chain import Hop
from swarm.routing.cost import Measurement
from swarm.span import LayerSpan, missing_layers
from swarm.trace import Trace
from swarm.transport.base import Network
from swarm.transport.channels.channel import Channel
from swarm.transport.channels.dial import dial
from swarm.wire.messages import Goodbye, Load

MAX_MEASURED = 4096  # peers whose measurements are kept
MAX_PARTINGS = 1024  # peers whose goodbye is remembered, the latest
MEASURE_AGAIN_SECONDS = 60.0  # a round trip is probed anew after this long
APART_SECONDS = 60.0  # that a worker which could not reach another is not asked to
MAX_APART = 1024  # such pairs
BACKOFF_FIRST = 0.25  # seconds for which a peer that just failed is not tried at all, doubling with each failure
BACKOFF_MOST = 2.0
MAX_FAULTS = 3  # that a message tells

Probe = Callable[[Sequence[Address], int, float], Awaitable[dict[Address, float]]]


@dataclass(frozen=True, slots=True)
class _Suspicion:
    until: float  # avoided if there is another
    retry_at: float  # avoided even if there is none
    failures: int
    full: Overloaded | None = None  # nothing is wrong with it, it has no room
    span: LayerSpan | None = None  # of which layers it was asked then
    fault: str = ""  # what happened


@dataclass(frozen=True, slots=True)
class Avoidance:
    """That a peer is avoided while there is another."""

    peer_id: PeerId
    seconds: float  # that are left of it
    fault: str  # what happened, in words


class Peers:
    """`async with Peers(...)`: leaving closes every channel."""

    def __init__(
        self,
        network: Network,
        config: ClientConfig,
        channel_config: ChannelConfig,
        trace: Trace,
        probe: Probe | None = None,
        carried: int = 0,
        identity: Identity | None = None,
    ) -> None:
        self.identity = (
            identity  # of this client, to sign with whom sessions' rows go on to; None: they go by the client
        )
        self.steps = itertools.count()  # numbers of questions, never given twice
        self.carried = carried  # numbers at the end of the model's rows that workers give on as they came
        self._network = network
        self._config = config
        self._channel_config = channel_config
        self.trace = trace
        self._probe = probe
        self._channels: dict[PeerId, Channel] = {}
        self._closed = False
        self._dialling: WeakValueDictionary[PeerId, asyncio.Lock] = WeakValueDictionary()
        self._suspicions: dict[PeerId, _Suspicion] = {}
        self._measured_at: OrderedDict[PeerId, float] = OrderedDict()
        self.measurements: dict[PeerId, Measurement] = {}
        self._partings: OrderedDict[PeerId, int] = OrderedDict()  # sequences of records, as of `has_parted`
        self.traffic = Interference()
        self._apart: OrderedDict[tuple[PeerId, PeerId], float] = OrderedDict()  # until when, loop time

    async def __aenter__(self) -> Peers:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._closed = True
        channels, self._channels = list(self._channels.values()), {}
        await asyncio.gather(*(channel.aclose() for channel in channels), return_exceptions=True)

    async def channel(self, hop: Hop, seconds: float | None = None) -> Channel:
        """The channel to a hop's peer, dialled if there is none.

        Raises PeerFault, at the latest after `seconds`; UsageFault when these peers were left.
        """
        lock = self._dialling.setdefault(hop.peer_id, asyncio.Lock())
        try:
            async with asyncio.timeout(seconds), lock:
                channel = self._channels.get(hop.peer_id)
                if channel is None or channel.closed:
                    channel = await self._dial(hop)
                return channel
        except TimeoutError:
            raise PeerLost(f"peer {hop.peer_id.short} did not answer within {seconds:.1f} s") from None

    async def _dial(self, hop: Hop) -> Channel:
        if not self._closed:
            channel = await dial(
                self._network,
                hop.addresses,
                hop.peer_id,
                self._channel_config,
                trace=self.trace,
                on_goodbye=self._parts,
            )
            if not self._closed:
                self._channels = {peer: one for peer, one in self._channels.items() if not one.closed}
                self._channels[hop.peer_id] = channel
                return channel
            channel.abort("the client was closed")
        raise UsageFault("the client was closed while it was in use")

    def _parts(self, channel: Channel, goodbye: Goodbye) -> None:
        self._partings[channel.peer_id] = max(goodbye.sequence, self._partings.pop(channel.peer_id, 0))
        if len(self._partings) > MAX_PARTINGS:
            self._partings.popitem(last=False)
        self.trace.complete("peers.parting", peer=channel.peer_id.short)

    def has_parted(self, record: PeerRecord) -> bool:
        """Whether this peer said goodbye since it announced that."""
        return record.sequence <= self._partings.get(record.peer_id, -1)

    def open_channel(self, peer_id: PeerId) -> Channel | None:
        """The channel to a peer, if there is one."""
        channel = self._channels.get(peer_id)
        return None if channel is None or channel.closed else channel

    def suspect(
        self,
        peer_id: PeerId,
        seconds: float | None = None,
        *,
        full: Overloaded | None = None,
        span: LayerSpan | None = None,
        fault: BaseException | None = None,
    ) -> None:
        """It failed, or is `full`: prefer others for a while, and leave it wholly alone for a moment."""
        now = asyncio.get_running_loop().time()
        old = self._suspicions.get(peer_id)
        failures = old.failures + 1 if old is not None and now < old.until else 0
        pause = min(BACKOFF_MOST, BACKOFF_FIRST * 2.0 ** min(failures, 10))
        until = now + max(pause, self._config.suspicion_seconds if seconds is None else seconds)
        self._suspicions[peer_id] = _Suspicion(until, now + pause, failures, full, span, str(fault or ""))
        self.trace.complete("peers.suspect", peer=peer_id.short, seconds=round(until - now, 3))

    def full(self, missing: Iterable[LayerRange]) -> Overloaded | None:
        """Why these layers are not to be had, if it is only that those who hold them have no room at the moment."""
        self.avoided(strictly=True)  # forgets what is over
        told = [each.full for each in self._suspicions.values() if each.full is not None]
        spans = [each.span for each in self._suspicions.values() if each.full is not None and each.span is not None]
        if told and not any(missing_layers(spans, each) for each in missing):
            return min(told, key=lambda error: error.retry_after)
        return None

    def faults(self) -> str:
        """What happened to those that are avoided because they failed, in one line; empty where nothing did."""
        self.avoided(strictly=True)  # forgets what is over
        faults = [(peer.short, each.fault) for peer, each in self._suspicions.items() if each.fault]
        told = [fault if short in fault else f"peer {short}: {fault}" for short, fault in faults]
        more = len(told) - MAX_FAULTS
        return "; ".join(told[:MAX_FAULTS]) + (f"; and {more} more" if more > 0 else "")

    def trust(self, peer_id: PeerId) -> None:
        """It did what was asked of it."""
        self._suspicions.pop(peer_id, None)

    def avoided(self, strictly: bool) -> frozenset[PeerId]:
        """Suspected peers; `strictly` leaves out those that may be tried again for want of others."""
        now = asyncio.get_running_loop().time()
        self._suspicions = {peer: s for peer, s in self._suspicions.items() if now < s.until}
        return frozenset(peer for peer, s in self._suspicions.items() if now < (s.until if strictly else s.retry_at))

    def avoidances(self) -> list[Avoidance]:
        """Whom it avoids now, and why, in the order of their ids."""
        now = asyncio.get_running_loop().time()
        suspicions = sorted(self._suspicions.items())
        return [
            Avoidance(peer, each.until - now, each.fault or str(each.full or "") or "it failed")
            for peer, each in suspicions
            if now < each.until
        ]

    def apart(self, peer_id: PeerId, following: PeerId) -> bool:
        """Whether the one could not reach the other lately: no session is to wait for that anew."""
        return asyncio.get_running_loop().time() < self._apart.get((peer_id, following), 0.0)

    def set_apart(self, peer_id: PeerId, following: PeerId) -> None:
        """The one cannot hand rows to the other."""
        self._apart.pop((peer_id, following), None)
        self._apart[peer_id, following] = asyncio.get_running_loop().time() + APART_SECONDS
        while len(self._apart) > MAX_APART:
            self._apart.popitem(last=False)

    def joined(self, peer_id: PeerId, following: PeerId) -> None:
        """The one reached the other."""
        self._apart.pop((peer_id, following), None)

    def noticed(self, peer_id: PeerId, load: Load) -> None:
        """A reply said how busy the peer is."""
        known = self.measurements.get(peer_id) or Measurement(None)
        self.measurements[peer_id] = replace(
            known, queue_rows=load.queue_rows, step_seconds=load.step_seconds or known.step_seconds
        )

    async def measure(self, records: Iterable[PeerRecord]) -> None:
        """Probe the round trip to peers that were not measured lately; returns within probe_seconds."""
        now = asyncio.get_running_loop().time()
        due = {
            address: record.peer_id
            for record in records
            if now - self._measured_at.get(record.peer_id, -MEASURE_AGAIN_SECONDS) >= MEASURE_AGAIN_SECONDS
            for address in record.addresses[:1]
        }
        if not due or self._probe is None:
            return
        wanted = sorted(due)[: self._config.max_candidates]
        try:
            answers = await self._probe(wanted, self._config.probe_count, self._config.probe_seconds)
        except (OSError, PortInUse, UsageFault) as error:  # no socket to probe with: chains are found without
            self.trace.failed("peers.measure", error=str(error))
            return
        for address in wanted:
            peer_id = due[address]
            known = self.measurements.get(peer_id) or Measurement(None)
            self.measurements[peer_id] = replace(known, round_trip=answers.get(address))
            self._measured_at[peer_id] = now
            self._measured_at.move_to_end(peer_id)
        while len(self._measured_at) > MAX_MEASURED:
            old, _ = self._measured_at.popitem(last=False)
            self.measurements.pop(old, None)
