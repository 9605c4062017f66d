"""Channels to other peers, over TLS or in this process, and round-trip probes. The names that floors above use."""

from swarm.transport.base import Network, Stream
from swarm.transport.channels.channel import Channel
from swarm.transport.channels.dial import dial
from swarm.transport.channels.responses import Exchange, Handler
from swarm.transport.channels.server import ChannelServer
from swarm.transport.in_process import MemoryNetwork
from swarm.transport.probes.service import ProbeServer, measure_round_trips
from swarm.transport.tls.network import TlsNetwork

__all__ = [
    "Channel",
    "ChannelServer",
    "Exchange",
    "Handler",
    "MemoryNetwork",
    "Network",
    "ProbeServer",
    "Stream",
    "TlsNetwork",
    "dial",
    "measure_round_trips",
]
