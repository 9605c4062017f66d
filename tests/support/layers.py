"""The worker's side of a node on a directory that is a board: what it says stands there, and is heard at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

from support.swarm import Records

from swarm.config import SpanConfig, WorkerConfig
from swarm.identity import Identity
from swarm.node.layers import Layers
from swarm.records import Address, PeerState, SignedRecord
from swarm.trace import Trace

OTHER = Identity.from_seed(b"o" * 32)


class Board(Records):
    """A directory that keeps what is announced to it."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[SignedRecord] = []
        self.left = asyncio.Event()  # once somebody was announced to leave

    async def announce(self, signed: SignedRecord) -> int:
        self.said.append(signed)
        self.records[signed.record.peer_id] = signed
        if signed.record.state is PeerState.DRAINING:
            self.left.set()
        return 1

    def succeed(self, former: SignedRecord) -> None:
        self.former = former

    def time(self) -> float:
        return 1_000_000.0


def layers(
    model: Path,
    board: Board,
    told: list[str] | None = None,
    config: WorkerConfig | None = None,
    identity: Identity | None = None,
    **serve: object,
) -> Layers:
    return Layers(
        SpanConfig(model, **serve),  # type: ignore[arg-type]
        identity or Identity.generate(),
        board,  # type: ignore[arg-type]
        lambda: (Address.of("127.0.0.1", 7700),),
        config=config or WorkerConfig(),
        trace=Trace(),
        progress=([] if told is None else told).append,
    )
