"""The client's half of a session: chains, steps, failover, replay, audits, text. `from swarm import Client`.

Importing this package loads no torch: what is named here is resolved when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swarm.client.client import Client
    from swarm.client.generate import Answer, Options, Token

__all__ = ["Answer", "Client", "Options", "Token"]

_LAZY = {"Answer": "generate", "Client": "client", "Options": "generate", "Token": "generate"}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module 'swarm.client' has no attribute {name!r}")
    return getattr(import_module(f"swarm.client.{_LAZY[name]}"), name)
