"""Channels to other peers, over TLS or in memory, and round-trip probes. The names that floors above use."""

from swarm.transport.base import Network, Stream
from swarm.transport.channel import Channel, dial
from swarm.transport.memory import MemoryNetwork
from swarm.transport.server import ChannelServer
from swarm.transport.serving import Exchange, Handler
from swarm.transport.tls import TlsNetwork
from swarm.transport.udp import ProbeServer, measure_round_trips

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
