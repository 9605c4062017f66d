"""What a worker answers to requests that break the rules: a clear error each, and nobody else notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import torch
from support.clock import run_virtual
from support.models import make_model
from support.swarm import LocalSwarm

from swarm.config import ChannelConfig
from swarm.errors import Draining, Gap, PeerFault, SessionFault
from swarm.identity import Identity
from swarm.span import LayerSpan
from swarm.transport.channels.channel import Channel
from swarm.transport.channels.dial import dial
from swarm.wire.messages import Close, Closed, Forward, Message, Open, Opened, Renew, Result
from swarm.wire.rows import Rows
from swarm.wire.tensors import Tensor

NAME = b"n" * 16
HIDDEN = 64


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"), hidden_size=HIDDEN)


@asynccontextmanager
async def one_worker(model: Path, numerics: str = "auto") -> AsyncIterator[tuple[LocalSwarm, Channel]]:
    async with LocalSwarm(model, [(1, 3)], numerics=numerics) as swarm:
        channel = await call(swarm, seed=200)
        yield swarm, channel
        await channel.aclose()


async def call(swarm: LocalSwarm, seed: int) -> Channel:
    identity = Identity.from_seed(seed.to_bytes(32, "big"))
    worker = swarm.workers[0]
    return await dial(swarm.hub.node(identity.peer_id), (worker.address,), worker.peer_id, ChannelConfig())


def opening(swarm: LocalSwarm, **changes: object) -> Open:
    fields = {
        "session_id": NAME,
        "model_digest": swarm.model.digest,
        "span": LayerSpan(1, 3),
        "precision": "fp32",
        "max_rows": 100,
    }
    return Open(**(fields | changes))  # type: ignore[arg-type]


def forward(step: int = 0, position: int = 0, rows: int = 1, kind: Rows = Rows.DECODE, **changes: object) -> Forward:
    data = memoryview(bytes(range(256)) * (rows * HIDDEN * 4 // 256 + 1))[: rows * HIDDEN * 4]
    tensor = changes.pop("tensor", Tensor("fp32", (rows, HIDDEN), data))
    return Forward(NAME, step, position, kind, tensor)  # type: ignore[arg-type]


def test_a_session_from_open_to_close(model: Path) -> None:
    async def main() -> None:
        async with one_worker(model) as (swarm, channel):
            opened = await channel.request(opening(swarm))
            assert isinstance(opened, Opened)
            assert opened.lease_seconds == 60
            result = await channel.request(forward(rows=5, kind=Rows.CHUNK))
            assert isinstance(result, Result)
            assert result.tensor.shape == (5, HIDDEN)
            assert isinstance(await channel.request(Renew(NAME)), Opened)
            assert await channel.request(Close(NAME)) == Closed(NAME)
            assert await channel.request(Close(NAME)) == Closed(NAME)
            assert swarm.workers[0].service.stage.pool.reserved == 0

    run_virtual(main())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_digest": bytes(32)}, "serves test .* not 0000"),
        ({"precision": "bf16"}, "computes in fp32, not bf16"),
        ({"span": LayerSpan(0, 2)}, "holds layers 1-2, not 0-1"),
        ({"span": LayerSpan(2, 9)}, "holds layers 1-2, not 2-8"),
        ({"max_rows": 5000}, "5000 rows: the model's context is 2048"),
    ],
)
def test_an_open_that_does_not_fit_is_refused_in_words(model: Path, changes: dict[str, object], message: str) -> None:
    async def main() -> None:
        async with one_worker(model) as (swarm, channel):
            with pytest.raises(PeerFault, match=message):
                await channel.request(opening(swarm, **changes))
            assert swarm.workers[0].service.load().sessions == 0

    run_virtual(main())


@pytest.mark.parametrize(
    ("bad", "kind", "message"),
    [
        (forward(position=7), Gap, "position 7 leaves a gap"),
        (forward(tensor=Tensor("fp32", (1, 32), memoryview(bytes(128)))), PeerFault, "32"),
        (forward(tensor=Tensor("bf16", (1, HIDDEN), memoryview(bytes(2 * HIDDEN)))), PeerFault, "bf16"),
        (forward(tensor=Tensor("fp32", (HIDDEN,), memoryview(bytes(4 * HIDDEN)))), PeerFault, "64"),
        (forward(rows=2049), PeerFault, "rows up to 2049: the model's context is 2048"),
        (forward(rows=129, kind=Rows.CHUNK), PeerFault, "crosses the grid of 128"),
    ],
)
def test_a_bad_forward_is_refused_and_the_session_goes_on(
    model: Path, bad: Forward, kind: type[Exception], message: str
) -> None:
    async def main() -> None:
        async with one_worker(model, "native") as (swarm, channel):
            await channel.request(opening(swarm))
            with pytest.raises(kind, match=message):
                await channel.request(bad)
            assert isinstance(await channel.request(forward()), Result)

    run_virtual(main())


def test_another_peer_s_session_does_not_exist(model: Path) -> None:
    async def main() -> None:
        async with one_worker(model) as (swarm, channel):
            await channel.request(opening(swarm))
            thief = await call(swarm, seed=201)
            for theft in (forward(), Renew(NAME), opening(swarm)):
                with pytest.raises(SessionFault):
                    await thief.request(theft)
            assert await thief.request(Close(NAME)) == Closed(NAME)
            assert isinstance(await channel.request(forward()), Result)
            await thief.aclose()

    run_virtual(main())


def test_portable_rows_have_the_same_bits_however_they_are_cut(model: Path) -> None:
    async def main() -> None:
        rows = torch.randn(300, HIDDEN, generator=torch.Generator().manual_seed(3)).numpy().tobytes()

        async def taken(channel: Channel, *cuts: tuple[Rows, int]) -> bytes:
            position, parts = 0, []
            await channel.request(opening(swarm, max_rows=300))
            for step, (kind, count) in enumerate(cuts):
                data = memoryview(rows)[position * HIDDEN * 4 : (position + count) * HIDDEN * 4]
                tensor = Tensor("fp32", (count, HIDDEN), data)
                reply = await channel.request(forward(step, position, kind=kind, tensor=tensor))
                assert isinstance(reply, Result)
                parts.append(bytes(reply.tensor.data))
                position += count
            return b"".join(parts)

        async with one_worker(model, "portable") as (swarm, channel):
            whole = await taken(channel, (Rows.CHUNK, 300))
            assert len(whole) == len(rows)
            uneven = [(Rows.CHUNK, 100), (Rows.DECODE, 1), (Rows.CHUNK, 129), (Rows.DECODE, 70)]
            assert await taken(channel, *uneven) == whole

    run_virtual(main())


def test_a_step_is_repeated_and_a_position_rolled_back_with_equal_bits(model: Path) -> None:
    async def main() -> None:
        async with one_worker(model) as (swarm, channel):
            await channel.request(opening(swarm))
            await channel.request(forward(step=0, rows=5, kind=Rows.CHUNK))
            first = await channel.request(forward(step=1, position=5))
            again = await channel.request(forward(step=1, position=5))
            back = await channel.request(forward(step=2, position=5))
            assert isinstance(first, Result)
            assert isinstance(again, Result)
            assert isinstance(back, Result)
            assert first.tensor.data == again.tensor.data == back.tensor.data
            with pytest.raises(SessionFault, match="out of order"):
                await channel.request(forward(step=1, position=6))

    run_virtual(main())


def test_a_lapsed_session_is_unknown(model: Path) -> None:
    async def main() -> None:
        async with one_worker(model) as (swarm, channel):
            await channel.request(opening(swarm))
            await asyncio.sleep(59)
            await channel.request(Renew(NAME))
            await asyncio.sleep(59)
            await channel.request(forward())
            await asyncio.sleep(62)
            with pytest.raises(SessionFault, match="lapsed"):
                await channel.request(forward(step=1, position=1))
            assert swarm.workers[0].service.stage.pool.reserved == 0

    run_virtual(main())


def test_a_draining_worker_finishes_what_it_has_and_takes_no_more(model: Path) -> None:
    async def main() -> None:
        async with one_worker(model) as (swarm, channel):
            service = swarm.workers[0].service
            await channel.request(opening(swarm))
            service.draining = True
            with pytest.raises(Draining, match="takes no new sessions"):
                await channel.request(opening(swarm, session_id=b"m" * 16))
            assert isinstance(await channel.request(forward()), Result)
            drained = asyncio.create_task(service.drained())
            await asyncio.sleep(1)
            assert not drained.done()
            await channel.request(Close(NAME))
            await drained

    run_virtual(main())


def test_a_bug_in_the_engine_is_one_session_s_error(model: Path) -> None:
    async def main() -> None:
        async with one_worker(model) as (swarm, channel):
            stage = swarm.workers[0].service.stage
            honest = stage.decode

            def broken(work: object) -> object:
                raise RuntimeError("the test breaks the engine")

            await channel.request(opening(swarm))
            stage.decode = broken  # type: ignore[method-assign, assignment]
            with pytest.raises(PeerFault, match="failed on its side"):
                await channel.request(forward())
            stage.decode = honest  # type: ignore[method-assign]
            assert isinstance(await channel.request(forward()), Result)

    run_virtual(main())


@pytest.mark.parametrize("last", [Renew(NAME), forward()])
def test_a_request_that_comes_with_the_end_of_its_connection_renews_no_lease(model: Path, last: Message) -> None:
    async def main() -> None:
        async with one_worker(model) as (swarm, channel):
            worker = swarm.workers[0]
            await channel.request(opening(swarm))
            worker.freeze()
            asking = asyncio.create_task(channel.request(last))
            await asyncio.sleep(0)
            await channel.aclose()
            with pytest.raises(PeerFault):
                await asking
            worker.thaw()
            await asyncio.sleep(5)
            assert worker.service.stage.pool.reserved == 0

    run_virtual(main())


def test_a_stopped_worker_says_that_it_stops(model: Path) -> None:
    async def main() -> None:
        async with one_worker(model) as (swarm, channel):
            await channel.request(opening(swarm))
            await swarm.workers[0].service.__aexit__(None, None, None)
            for request in (forward(), opening(swarm, session_id=b"m" * 16)):
                with pytest.raises(Draining, match="has stopped"):
                    await channel.request(request)
            assert swarm.workers[0].service.stage.pool.reserved == 0

    run_virtual(main())
