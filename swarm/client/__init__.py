"""The client's half of a session: chains, steps, failover, replay, text. `from swarm import Client`."""

from swarm.client.client import Client
from swarm.client.generate import Answer, Options, Token

__all__ = ["Answer", "Client", "Options", "Token"]
