"""One daemon: a node is a bootstrap, a worker or a client."""

from swarm.node.node import Node

__all__ = ["Node"]
