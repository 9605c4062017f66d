"""What a running client has."""

from __future__ import annotations

from dataclasses import dataclass

from swarm.client.audits.auditor import Auditor
from swarm.client.head_loader import HeadLoader
from swarm.client.local import LocalModel
from swarm.client.peers import Peers
from swarm.client.prefixes.cache import PrefixCache
from swarm.client.resolver import Resolver
from swarm.engine.backends import Model
from swarm.engine.compute_thread import ComputeThread
from swarm.engine.pooling import Pooling
from swarm.records import ModelRef
from swarm.text.tokenizer import Text


@dataclass(slots=True)
class Started:
    """Beside `local`, everything else is the swarm's."""

    compute: ComputeThread
    opened: Model
    loader: HeadLoader
    text: Text
    model: ModelRef
    pooling: Pooling | None = None  # once it was asked for
    local: LocalModel | None = None  # with `local`
    peers: Peers | None = None  # without
    resolver: Resolver | None = None
    auditor: Auditor | None = None
    kept: PrefixCache | None = None
