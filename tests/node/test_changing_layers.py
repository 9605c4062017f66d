"""Layers that move while sessions run, and that leave only when others have theirs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from support.layers import OTHER, Board, layers
from support.models import make_model

from swarm.checkpoint.config import read_spec
from swarm.config import WorkerConfig
from swarm.engine import footprint
from swarm.errors import Draining, SessionFault, WrongModel
from swarm.identity import Identity
from swarm.node.layers import Layers
from swarm.node.precision import CACHE_SHARE, SESSION_ROWS
from swarm.records import PeerRecord, PeerState, SignedRecord
from swarm.span import LayerSpan
from swarm.transport.channels.responses import Exchange
from swarm.wire.messages import Close, Forward, Open, Result
from swarm.wire.rows import Rows


class Crossroads(Board):
    """A worker that chooses two of four layers, and another that stands where it is told to: it moves where that one is not."""

    def __init__(self, model: Path) -> None:
        super().__init__()
        self.model = model
        self.served = {LayerSpan(0, 2): asyncio.Event(), LayerSpan(2, 4): asyncio.Event()}
        self.states: list[PeerState] = []
        self.beside: PeerRecord

    async def announce(self, signed: SignedRecord) -> int:
        record = signed.record
        if record.peer_id != OTHER.peer_id:
            self.states.append(record.state)
            if record.state is PeerState.SERVING:
                self.served[record.span].set()
        return await super().announce(signed)

    async def stand(self, span: LayerSpan) -> None:
        """The other serves these layers from now on."""
        again = replace(self.beside, span=span, sequence=len(self.said) + (1 << 60))
        await Board.announce(self, again.sign(OTHER))

    @asynccontextmanager
    async def mover(self, told: list[str], move_seconds: float, max_memory: int | None = None) -> AsyncIterator[Layers]:
        """It serves the first two layers, for the other has the rest."""
        async with layers(self.model, self, precision="fp32", layers=LayerSpan(2, 4), identity=OTHER):
            self.beside = self.said[-1].record
        await self.stand(LayerSpan(2, 4))
        config = WorkerConfig(move_every=0.01, claim_seconds=0.0, move_seconds=move_seconds)
        mover = layers(self.model, self, told, config, precision="fp32", most_layers=2, max_memory=max_memory)
        async with mover as served:
            assert served.service.stage.span == LayerSpan(0, 2)
            yield served


ASKER = SimpleNamespace(peer_id=Identity.from_seed(b"a" * 32).peer_id, host="127.0.0.1", closed=False)
NAME = b"s" * 16


def opening(served: Layers) -> Open:
    return Open(NAME, served.service.model.digest, LayerSpan(0, 2), "fp32", 10)


def forward(served: Layers) -> Forward:
    stage = served.service.stage
    return Forward(NAME, 0, 0, Rows.CHUNK, stage.tensor(torch.ones(3, stage.spec.width)))


def test_a_worker_moves_while_its_sessions_run_and_goes_back_for_nothing(tmp_path: Path) -> None:
    """Both spans are served until the sessions of the old one have ended; its layers are kept, and not read again."""

    async def main() -> None:
        told, board = list[str](), Crossroads(make_model(tmp_path / "m", num_hidden_layers=4))
        async with board.mover(told, move_seconds=1000.0) as served:
            exchange = Exchange(ASKER, 1)  # type: ignore[arg-type]
            old, stage, opened = served.service, served.service.stage, opening(served)
            await served.services.handle(opened, exchange)
            await board.stand(LayerSpan(0, 2))
            await board.served[LayerSpan(2, 4)].wait()
            assert (served.service.stage.span, served.services.ending) == (LayerSpan(2, 4), (old,))
            assert isinstance(await served.services.handle(forward(served), exchange), Result)
            assert served.services.load().sessions == 1
            with pytest.raises(WrongModel, match="holds layers 2-3, not 0-1"):
                await served.services.handle(replace(opened, session_id=b"t" * 16), exchange)
            await served.services.handle(Close(NAME), exchange)
            board.served[LayerSpan(0, 2)].clear()
            await board.stand(LayerSpan(2, 4))
            await board.served[LayerSpan(0, 2)].wait()
            assert [text for text in told if text.startswith("loading")] == ["loading layers 0-1", "loading layers 2-3"]
            assert all(served.service.stage.layers[layer] is stage.layers[layer] for layer in (0, 1))
            assert not served.services.load().sessions
            assert PeerState.LOADING not in board.states[2:]

    asyncio.run(main())


def test_where_two_spans_find_no_room_the_old_one_ends_first(tmp_path: Path) -> None:
    """Its sessions are refused at their next step, as at a worker that died: their owners replay them elsewhere."""

    async def main() -> None:
        told, board = list[str](), Crossroads(make_model(tmp_path / "m", num_hidden_layers=4))
        room = int(footprint(read_spec(board.model), LayerSpan(0, 2), "fp32", SESSION_ROWS) / CACHE_SHARE) + (1 << 16)
        async with board.mover(told, move_seconds=0.0, max_memory=room) as served:
            exchange = Exchange(ASKER, 1)  # type: ignore[arg-type]
            await served.services.handle(opening(served), exchange)
            step, chosen = forward(served), len(board.states)
            await board.stand(LayerSpan(0, 2))
            await board.served[LayerSpan(2, 4)].wait()
            states = board.states[chosen:]
            assert states[states.index(PeerState.LOADING) :] == [PeerState.LOADING, PeerState.SERVING]
            assert served.service.stage.span == LayerSpan(2, 4)
            with pytest.raises(SessionFault, match="no session"):
                await served.services.handle(step, exchange)
            assert served.service.stage.pool.budget > 0

    asyncio.run(main())


def test_a_step_that_is_under_way_when_its_span_is_given_up_is_answered(tmp_path: Path) -> None:
    async def main() -> None:
        told, board = list[str](), Crossroads(make_model(tmp_path / "m", num_hidden_layers=4))
        async with board.mover(told, move_seconds=0.0) as served:
            exchange = Exchange(ASKER, 1)  # type: ignore[arg-type]
            await served.services.handle(opening(served), exchange)
            stage, computing, go_on = served.service.stage, threading.Event(), threading.Event()

            def slowly(cache: object, rows: torch.Tensor) -> torch.Tensor:
                computing.set()
                go_on.wait(10)
                return rows

            stage.chunk = slowly  # type: ignore[method-assign]
            step = asyncio.create_task(served.services.handle(forward(served), exchange))
            await asyncio.to_thread(computing.wait)
            services, old = served.services, served.service
            services.retire()
            ending = asyncio.create_task(services.finish(0.0))
            with pytest.raises(Draining, match="has moved"):
                await step
            go_on.set()
            await ending
            assert old not in services.ending

    asyncio.run(main())


@pytest.mark.parametrize("end", ["taken", "alone", "late"])
def test_who_alone_holds_layers_waits_for_a_successor(tmp_path: Path, end: str) -> None:
    async def main() -> None:
        board, told, model = Board(), list[str](), make_model(tmp_path / "m", num_hidden_layers=4)
        async with layers(model, board, precision="fp32", layers=LayerSpan(0, 2), identity=OTHER):
            beside = board.said[-1].record
        await board.announce(replace(beside, sequence=1 << 60).sign(OTHER))
        config = WorkerConfig(successor_seconds=0.05 if end == "late" else 1000.0)
        async with layers(model, board, told, config, layers=LayerSpan(2, 4), precision="fp32") as served:
            waiting = asyncio.Event()

            async def announce(signed: SignedRecord) -> int:
                if signed.record.moving is not None:
                    waiting.set()
                return await Board.announce(board, signed)

            board.announce = announce  # type: ignore[method-assign]
            leaving = asyncio.create_task(served.drain())
            await waiting.wait()
            assert served.services.serving
            assert board.said[-1].record.doing == "leaving"
            assert "nobody else holds layers 2-3, so they are served until another worker does" in told[-1]
            if end == "taken":
                await Board.announce(board, replace(beside, span=LayerSpan(0, 4), sequence=(1 << 60) + 1).sign(OTHER))
            elif end == "alone":  # who was to take them has left, too: nobody is there to wait for
                await Board.announce(board, replace(beside, state=PeerState.GONE, sequence=(1 << 60) + 1).sign(OTHER))
            await leaving
            assert board.said[-1].record.state is PeerState.GONE
            assert any("no other worker has taken layers 2-3" in text for text in told) == (end == "late")

    asyncio.run(main())
