"""One daemon: a node is a bootstrap, or a worker. Clients are `swarm.Client`."""

from swarm.node.node import Node

__all__ = ["Node"]
