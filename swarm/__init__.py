"""swarm: one language model across many machines, exact and fault-tolerant.

Importing this package loads neither torch nor the network; `Client` and `Node` are resolved when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from swarm.version import __version__

if TYPE_CHECKING:
    from swarm.client import Client
    from swarm.node import Node

__all__ = ["Client", "Node", "__version__"]

_LAZY = {"Client": "swarm.client", "Node": "swarm.node"}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module 'swarm' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
