"""What a worker says of itself, and what it refuses before loading anything."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from support.families_gemma4 import make_gemma4
from support.layers import Board, layers
from support.models import make_model

from swarm.checkpoint.config import read_spec
from swarm.client.room import rows_of_records
from swarm.config import WorkerConfig
from swarm.engine import footprint
from swarm.engine.backends import open_model
from swarm.errors import ModelFault, UsageFault
from swarm.identity import Identity
from swarm.node.holding import device_text
from swarm.node.precision import CACHE_SHARE, SESSION_ROWS
from swarm.precision import Wishes
from swarm.records import PeerState, SignedRecord
from swarm.span import LayerSpan
from swarm.transport.channels.responses import Exchange
from swarm.wire.messages import Close, Open
from swarm.worker.capacity import Capacity


def test_a_worker_announces_what_it_holds_and_measured(tmp_path: Path) -> None:
    async def main() -> None:
        board = Board()
        async with layers(make_model(tmp_path / "m"), board, layers=LayerSpan(1, 3), precision="fp32") as served:
            record = board.said[0].record
            assert (record.span, record.precision, record.state) == (LayerSpan(1, 3), "fp32", PeerState.SERVING)
            assert record.tokens_per_second is not None
            assert record.tokens_per_second > 0
            assert (record.uplink, record.downlink, record.asked) == (None, None, 0.0)
            assert 0 < record.memory_free <= record.memory_total
            assert record.device.endswith(("core", "cores"))
            assert record.expires_at == 1_000_060.0
            await served.drain()
        assert [signed.record.state for signed in board.said] == [PeerState.SERVING, PeerState.GONE]
        assert board.said[1].record.sequence > board.said[0].record.sequence
        assert board.said[1].record.expires_at >= board.said[0].record.expires_at

    asyncio.run(main())


def test_a_worker_that_is_stopped_while_it_loads_says_that_it_left(tmp_path: Path) -> None:
    async def main() -> None:
        board = Board()
        loading = asyncio.Event()
        config = WorkerConfig(look_again_seconds=3600.0)

        async def announce(signed: SignedRecord) -> int:
            loading.set()
            return await Board.announce(board, signed)

        board.announce = announce  # type: ignore[method-assign]
        starting = asyncio.create_task(layers(make_model(tmp_path / "m"), board, config=config).__aenter__())
        await loading.wait()
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        assert [signed.record.state for signed in board.said] == [PeerState.LOADING, PeerState.GONE]

    asyncio.run(main())


def test_a_worker_that_comes_back_goes_on_where_its_earlier_run_ended(tmp_path: Path) -> None:
    async def main() -> None:
        board, model = Board(), make_model(tmp_path / "m")
        one, other = make_model(tmp_path / "other"), Identity.from_seed(bytes(32))
        async with layers(one, board, identity=other):
            former = board.said[-1]
        await Board.announce(board, former.record.again(1 << 50, 1_000_060.0).sign(other))
        async with layers(model, board, identity=other):
            assert board.former.record.sequence == 1 << 50
            assert board.said[-1].record.sequence > 1 << 50
            assert board.said[-1].record.model.name == "m"

    asyncio.run(main())


def test_a_worker_whose_files_make_another_model_of_the_same_name_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        board, told = Board(), list[str]()
        one, other = make_model(tmp_path / "a" / "m"), make_model(tmp_path / "b" / "m", seed=5)
        async with layers(one, board, layers=LayerSpan(0, 2)), layers(other, board, told, layers=LayerSpan(0, 2)):
            (warning,) = (text for text in told if "the swarm serves another m" in text)
            assert str(other) in warning
            assert board.said[0].record.model.digest.hex()[:12] in warning

    asyncio.run(main())


def test_without_a_range_a_worker_takes_what_is_held_least(tmp_path: Path) -> None:
    async def main() -> None:
        board, model = Board(), make_model(tmp_path / "m")
        async with layers(model, board, layers=LayerSpan(0, 3)), layers(model, board):
            assert 3 in board.said[-1].record.span

    asyncio.run(main())


def test_a_span_that_does_not_fit_is_refused_with_the_one_that_would(tmp_path: Path) -> None:
    async def main() -> None:
        model = make_model(tmp_path / "m", num_hidden_layers=8, hidden_size=256, intermediate_size=1024)
        with pytest.raises(
            UsageFault, match=r"layers 0-7 need \d+ MiB in fp32, and 20 MiB may be used: layers 0-\d would fit"
        ):
            async with layers(model, Board(), layers=LayerSpan(0, 8), precision="fp32", max_memory=20 << 20):
                pass
        with pytest.raises(UsageFault, match="no beginning of them would fit"):
            async with layers(model, Board(), layers=LayerSpan(0, 8), precision="fp32", max_memory=1 << 20):
                pass

    asyncio.run(main())


def test_layers_that_only_stand_together_are_taken_together(tmp_path: Path) -> None:
    async def main() -> None:
        board, told, model = Board(), list[str](), make_gemma4(tmp_path / "m", "gemma4-shared")
        with pytest.raises(
            ModelFault, match=r"layers 0-1 cannot be served: between layers 1 and 2 .*layer 4 uses .*of layer 1\. Ask"
        ):
            async with layers(model, board, told, layers=LayerSpan(0, 2)):
                pass
        assert not told  # nothing was read yet
        sizes = [footprint(read_spec(model), LayerSpan(layer, layer + 1), "fp32") for layer in range(5)]
        with pytest.raises(UsageFault, match=r"layers 1-4 need .* no beginning of them would fit"):
            async with layers(model, board, layers=LayerSpan(1, 5), precision="fp32", max_memory=sum(sizes[1:4])):
                pass
        async with AsyncExitStack() as workers:
            for held in (LayerSpan(1, 5), LayerSpan(0, 4)):
                weights = sum(sizes[held.start : held.stop])
                session = footprint(read_spec(model), held, "fp32", usual_rows(model)) - weights
                most = weights + int(session / CACHE_SHARE) + (4 << 10)
                await workers.enter_async_context(layers(model, board, precision="fp32", max_memory=most))
        assert [str(each.record.span) for each in board.said if each.record.state is PeerState.SERVING] == ["1-4", "0"]

    asyncio.run(main())


def usual_rows(model: Path) -> int:
    return min(SESSION_ROWS, read_spec(model).max_positions)


def test_a_worker_takes_no_layer_for_which_a_session_s_caches_have_no_room(tmp_path: Path) -> None:
    async def main() -> None:
        board, model = Board(), make_model(tmp_path / "m")
        spec, rows = read_spec(model), usual_rows(model)
        session = footprint(spec, LayerSpan(0, 2), "fp32", rows) - (two := footprint(spec, LayerSpan(0, 2), "fp32"))
        async with AsyncExitStack() as workers:
            for most, span, least in (
                (two + int(session / CACHE_SHARE) + 8, "0-1", rows),
                (two + session // 2, "2", rows),  # for two layers' weights, and half of the room that they need
                (two // 2 + (20 << 10), "3", 64),  # a layer without that room is better than none
            ):
                await workers.enter_async_context(layers(model, board, precision="fp32", max_memory=most))
                record = board.said[-1].record
                assert str(record.span) == span
                assert rows_of_records(open_model(model))(record) >= least

    asyncio.run(main())


@pytest.mark.parametrize(
    ("capacity", "text"),
    [
        (Capacity(1, 1, 1, "cpu"), "cpu, 1 core"),
        (Capacity(1, 1, 16, "cpu"), "cpu, 16 cores"),
        (Capacity(1, 1, 16, "cuda: NVIDIA H200"), "cuda: NVIDIA H200"),
    ],
)
def test_devices_are_said_with_their_cores(capacity: Capacity, text: str) -> None:
    assert device_text(capacity) == text


def test_a_worker_takes_no_more_layers_than_it_was_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with layers(make_model(tmp_path / "m"), Board(), most_layers=1) as worker:
            assert len(worker.service.stage.span) == 1

    asyncio.run(main())


def test_workers_that_choose_at_once_take_different_layers(tmp_path: Path) -> None:
    async def main() -> None:
        board, model = Board(), make_model(tmp_path / "m", num_hidden_layers=4)
        room = footprint(read_spec(model), LayerSpan(0, 3), "fp32") - 1  # for two layers and their cache
        workers = [layers(model, board, max_memory=room, precision="fp32") for _ in range(2)]
        await asyncio.gather(*(worker.__aenter__() for worker in workers))
        try:
            spans = sorted(worker.service.stage.span for worker in workers)
            assert spans == [LayerSpan(0, 2), LayerSpan(2, 4)]
            assert {signed.record.state for signed in board.said[:2]} == {PeerState.LOADING}
        finally:
            for worker in workers:
                await worker.__aexit__()

    asyncio.run(main())


def test_who_finds_its_layers_held_by_others_when_they_are_loaded_takes_those_that_nobody_holds(tmp_path: Path) -> None:
    class Crowded(Board):
        """Another worker comes to serve while this one loads."""

        async def announce(self, signed: SignedRecord) -> int:
            mine = signed.record
            if mine.state is PeerState.LOADING:
                other = Identity.from_seed(bytes(32))
                await super().announce(replace(mine, peer_id=other.peer_id, state=PeerState.SERVING).sign(other))
                self.said.pop()
            self.said.append(signed)
            return 1

    async def main() -> None:
        told: list[str] = []
        model = make_model(tmp_path / "m", num_hidden_layers=4)
        room = footprint(read_spec(model), LayerSpan(0, 3), "fp32") - 1
        async with layers(model, Crowded(), told, max_memory=room, precision="fp32") as served:
            assert served.service.stage.span == LayerSpan(2, 4)

    asyncio.run(main())


@pytest.mark.parametrize("elsewhere", [LayerSpan(0, 4), LayerSpan(0, 2)])
def test_sessions_are_waited_for_shortly_where_others_hold_all_the_layers(tmp_path: Path, elsewhere: LayerSpan) -> None:
    """Containers are given ten seconds to stop; whoever can go on elsewhere needs none of them."""
    config = WorkerConfig(drain_seconds=1000.0, move_seconds=0.0)
    asker = SimpleNamespace(peer_id=Identity.from_seed(b"a" * 32).peer_id, host="127.0.0.1", closed=False)

    async def main() -> None:
        board, told = Board(), []
        async with layers(make_model(tmp_path / "m"), board, told, config=config, layers=LayerSpan(1, 3)) as served:
            other = Identity.from_seed(bytes(32))
            await board.announce(replace(board.said[0].record, peer_id=other.peer_id, span=elsewhere).sign(other))
            opened = Open(b"s" * 16, served.service.model.digest, LayerSpan(1, 3), served.service.stage.precision, 10)
            exchange = Exchange(asker, 1)  # type: ignore[arg-type]
            await served.service.handle(opened, exchange)
            leaving = asyncio.create_task(served.drain())
            if elsewhere == LayerSpan(0, 2):  # nobody else has layer 2
                await board.left.wait()
                assert not leaving.done()
                await served.service.handle(Close(b"s" * 16), exchange)
            await leaving
            limit = 0 if elsewhere == LayerSpan(0, 4) else 1000
            assert told[-1] == f"stopping: sessions that run here (1) may end or move within {limit} s"
            assert served.service.load().sessions == (elsewhere == LayerSpan(0, 4))

    asyncio.run(main())


def test_the_precision_that_is_left_open_is_the_swarms_or_else_the_files(tmp_path: Path) -> None:
    """Said in one line before anything is loaded, and layers are chosen among workers of that precision."""

    async def run() -> None:
        board, told = Board(), []
        model = make_model(
            tmp_path / "m",
            num_hidden_layers=4,
        )
        room = int(footprint(read_spec(model), LayerSpan(0, 2), "fp32", SESSION_ROWS) / CACHE_SHARE) + (1 << 16)
        async with layers(model, board, layers=LayerSpan(0, 2), precision="bf16") as first:
            assert first.service.stage.precision == "bf16"
            async with layers(model, board, told, layers=LayerSpan(0, 2), max_memory=room) as second:
                assert second.service.stage.precision == "bf16"
            assert "precision bf16: 1 worker of the swarm computes 2 of 4 layers so" in told
            async with layers(model, board, told, precision="fp32", max_memory=room) as third:
                assert third.service.stage.span.start == 0  # of those that compute in fp32 nobody holds anything yet
        async with layers(model, Board(), told, layers=LayerSpan(0, 2)) as alone:
            assert alone.service.stage.precision == open_model(model).own_precision == "fp32"
        assert "precision fp32: so the model's files hold it" in told

    asyncio.run(run())


def test_what_is_wished_of_the_plan_is_announced_and_joined(tmp_path: Path) -> None:
    async def run() -> None:
        model, board, told, wishes = make_model(tmp_path / "m"), Board(), list[str](), Wishes("int16", "int8")
        plan = "int8+activations-int16+cache-int8"
        async with layers(model, board, precision="int8", layers=LayerSpan(0, 2), wishes=wishes) as first:
            stage = first.service.stage
            assert (stage.precision, stage.numerics) == (plan, f"portable-1:{plan}")
            assert board.said[-1].record.precision == plan
            assert stage.pool.dtype == torch.int8
            async with layers(model, board, told, layers=LayerSpan(2, 4)) as joining:
                assert joining.service.stage.numerics == stage.numerics
            assert f"precision {plan}: 1 worker of the swarm computes 2 of 4 layers so" in told
            async with layers(model, board, told, layers=LayerSpan(2, 4), wishes=Wishes(cache="bf16")) as other:
                assert other.service.stage.precision == "fp32+cache-bf16"
        with pytest.raises(UsageFault, match="cache-precision int8: only portable numerics"):
            async with layers(model, board, numerics="native", wishes=Wishes(cache="int8")):
                pass

    asyncio.run(run())


def test_a_plan_that_does_not_fit_the_model_is_refused(tmp_path: Path) -> None:
    async def run() -> None:
        model = make_model(tmp_path / "m", num_hidden_layers=4)
        with pytest.raises(UsageFault, match="says nothing of layers 2-3"):
            async with layers(model, Board(), precision="0-1=bf16"):
                pass
        plan = "0=bf16,1-3=int4"
        async with layers(model, Board(), precision="1-3=int4,0=bf16", numerics="portable") as served:
            assert (served.service.stage.precision, served.service.stage.numerics) == (plan, f"portable-1:{plan}")

    asyncio.run(run())
