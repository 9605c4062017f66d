"""Sessions that begin with another's rows, and those that are kept for it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import torch
from support.clock import run_virtual
from support.models import make_model
from support.swarm import LocalSwarm

from swarm.config import ChannelConfig, WorkerConfig
from swarm.engine.caches import kv_cache as engine_cache
from swarm.engine.caches.kv_cache import TILE_ROWS
from swarm.errors import Overloaded, PeerFault, SessionFault, SwarmError
from swarm.identity import Identity
from swarm.span import LayerSpan
from swarm.transport.channels.channel import Channel
from swarm.transport.channels.dial import dial
from swarm.wire.messages import Close, Closed, Forward, Message, Open, Opened, Renew, Result
from swarm.wire.receipts import Tally
from swarm.wire.rows import Rows
from swarm.wire.tensors import Tensor

PARENT, CHILD, OTHER = (bytes([letter]) * 16 for letter in b"pco")
HIDDEN = 64
SPAN = LayerSpan(1, 3)
ROW_BYTES = 2 * 2 * 2 * 16 * 4  # of one row in a cache: keys and values, two layers, two heads of 16, fp32


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"), hidden_size=HIDDEN)


@asynccontextmanager
async def one_worker(
    model: Path, precision: str = "fp32", cache_rows: int = 4096, config: WorkerConfig | None = None
) -> AsyncIterator[tuple[LocalSwarm, Channel]]:
    options = {"precision": precision, "cache_bytes": cache_rows * ROW_BYTES, "worker_config": config}
    async with LocalSwarm(model, [(1, 3)], **options) as swarm:
        channel = await call(swarm, 200)
        yield swarm, channel
        await channel.aclose()


async def call(swarm: LocalSwarm, seed: int) -> Channel:
    identity = Identity.from_seed(seed.to_bytes(32, "big"))
    worker = swarm.workers[0]
    return await dial(swarm.hub.node(identity.peer_id), (worker.address,), worker.peer_id, ChannelConfig())


def opening(swarm: LocalSwarm, name: bytes, parent: bytes | None = None, rows: int = 0, max_rows: int = 400) -> Open:
    return Open(name, swarm.model.digest, SPAN, swarm.precision, max_rows, parent, rows)


def given(precision: str, start: int, stop: int) -> Tensor:
    """Rows `start` to `stop` of one long prompt."""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    values = torch.randn(512, HIDDEN, generator=torch.Generator().manual_seed(7)).to(dtype)[start:stop].contiguous()
    return Tensor(precision, (stop - start, HIDDEN), memoryview(values.view(torch.uint8).numpy().tobytes()))


async def feed(
    channel: Channel, name: bytes, precision: str, *cuts: int, decode: int = 0, step: int = 0
) -> list[Message]:
    """Chunks between the cuts, then decode rows; the answers."""
    answers: list[Message] = []
    parts = [(start, stop, Rows.CHUNK) for start, stop in itertools.pairwise(cuts)]
    parts += [(cuts[-1] + row, cuts[-1] + row + 1, Rows.DECODE) for row in range(decode)]
    for number, (start, stop, kind) in enumerate(parts):
        asked = Forward(name, step + number, start, kind, given(precision, start, stop))
        answers.append(await channel.request(asked))
    return answers


def bits(answers: list[Message]) -> list[bytes]:
    return [bytes(answer.tensor.data) for answer in answers if isinstance(answer, Result)]


def held(swarm: LocalSwarm, name: bytes, rows: int) -> torch.Tensor:
    """Keys, which stand in tiles of positions, and values, [layers, 2, kv_heads, rows, head_dim]."""
    slot, found = swarm.workers[0].service._sessions._slots[name], []
    for layer in SPAN:
        keys, values = slot.cache.layer(layer)[:, 0]  # type: ignore[attr-defined]
        in_rows = keys.reshape(keys.shape[0], -1, keys.shape[2], TILE_ROWS).transpose(2, 3).reshape(keys.shape)
        found.append(torch.stack((in_rows, values))[:, :, :rows])
    return torch.stack(found)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kept", [False, True])
def test_a_copy_has_the_very_bits_of_rows_that_were_computed(model: Path, precision: str, kept: bool) -> None:
    async def main() -> None:
        async with one_worker(model, precision) as (swarm, channel):
            await channel.request(opening(swarm, PARENT))
            await feed(channel, PARENT, precision, 0, 128, 256, 300, decode=3)
            if kept:
                assert isinstance(await channel.request(Renew(PARENT, idle=True)), Opened)
            await channel.request(opening(swarm, OTHER))
            await feed(channel, OTHER, precision, 0, 128, 256)
            opened = await channel.request(opening(swarm, CHILD, PARENT, 256))
            assert isinstance(opened, Opened)
            assert opened.position == 256
            assert torch.equal(held(swarm, CHILD, 256), held(swarm, OTHER, 256))
            hit = await feed(channel, CHILD, precision, 256, 384, decode=4)
            miss = await feed(channel, OTHER, precision, 256, 384, decode=4, step=2)
            assert bits(hit) == bits(miss)
            assert len(bits(hit)) == 5
            assert torch.equal(held(swarm, CHILD, 388), held(swarm, OTHER, 388))

    run_virtual(main())


def test_a_copy_in_parts_is_the_same(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with one_worker(model) as (swarm, channel):
            monkeypatch.setattr("swarm.engine.stage.COPY_BYTES", 1)
            await channel.request(opening(swarm, PARENT))
            await feed(channel, PARENT, "fp32", 0, 128)
            assert len(swarm.workers[0].service.stage.copies(128, SPAN)) == 2
            await channel.request(opening(swarm, CHILD, PARENT, 128))
            assert torch.equal(held(swarm, CHILD, 128), held(swarm, PARENT, 128))

    run_virtual(main())


def test_the_first_rows_have_a_receipt_in_the_new_session_s_name(model: Path) -> None:
    async def main() -> None:
        async with one_worker(model) as (swarm, channel):
            worker = swarm.workers[0]
            await channel.request(opening(swarm, PARENT))
            answers = await feed(channel, PARENT, "fp32", 0, 128, 256)
            tally = Tally(CHILD, SPAN, swarm.model.digest, worker.service.stage.numerics)
            for start, answer in zip((0, 128), answers, strict=True):
                tally.add(start, given("fp32", start, start + 128), answer.tensor)  # type: ignore[union-attr]
            opened = await channel.request(opening(swarm, CHILD, PARENT, 256))
            assert isinstance(opened, Opened)
            assert tally.check(opened.receipt, worker.peer_id).stop == 256
            (answer,) = await feed(channel, CHILD, "fp32", 256, 300)
            assert isinstance(answer, Result)
            assert answer.receipt is not None
            assert answer.receipt.start == 256

    run_virtual(main())


def test_the_rows_without_a_receipt_have_one_when_the_session_is_kept(model: Path) -> None:
    async def main() -> None:
        async with one_worker(model) as (swarm, channel):
            await channel.request(opening(swarm, PARENT))
            await feed(channel, PARENT, "fp32", 0, 128, decode=3)
            idle = await channel.request(Renew(PARENT, idle=True))
            assert isinstance(idle, Opened)
            assert idle.receipt is not None
            assert (idle.receipt.start, idle.receipt.stop) == (128, 131)
            again = await channel.request(Renew(PARENT, idle=True))
            assert isinstance(again, Opened)
            assert again.receipt is None
            with pytest.raises(SessionFault, match="has ended"):
                await channel.request(Forward(PARENT, 9, 131, Rows.DECODE, given("fp32", 131, 132)))
            assert await channel.request(Close(PARENT)) == Closed(PARENT)
            assert swarm.workers[0].service.stage.pool.reserved == 0

    run_virtual(main())


def test_what_cannot_be_a_parent(model: Path) -> None:
    async def main() -> None:
        async with one_worker(model) as (swarm, channel):
            stranger = await call(swarm, 201)
            await channel.request(opening(swarm, PARENT))
            await feed(channel, PARENT, "fp32", 0, 128)
            wrong: list[tuple[Channel, Open, type[SwarmError]]] = [
                (stranger, opening(swarm, CHILD, PARENT, 128), SessionFault),  # another's
                (channel, opening(swarm, CHILD, b"?" * 16, 128), SessionFault),
                (channel, opening(swarm, CHILD, PARENT, 129), SessionFault),  # more than there are
                (channel, opening(swarm, PARENT, PARENT, 128), PeerFault),
                (channel, opening(swarm, CHILD, PARENT, 0), PeerFault),
                (channel, opening(swarm, CHILD, PARENT, 128, max_rows=100), PeerFault),
                (
                    channel,
                    Open(CHILD, swarm.model.digest, LayerSpan(1, 2), "fp32", 400, PARENT, 128),  # other layers
                    SessionFault,
                ),
            ]
            for asker, asked, fault in wrong:
                with pytest.raises(fault):
                    await asker.request(asked)
            assert swarm.workers[0].service.load().sessions == 1
            await stranger.aclose()

    run_virtual(main())


def test_kept_sessions_go_before_anyone_hears_overloaded(model: Path) -> None:
    async def main() -> None:
        async with one_worker(model, cache_rows=1024) as (swarm, channel):
            service = swarm.workers[0].service
            for name in (PARENT, OTHER):
                await channel.request(opening(swarm, name, max_rows=448))
                await feed(channel, name, "fp32", 0, 128)
                await channel.request(Renew(name, idle=True))
            assert service.stage.pool.reserved == 2 * 128 * ROW_BYTES  # no more than they hold
            assert service.load().cache_tokens_free == 1024
            assert service.load().sessions == 0
            await asyncio.sleep(1)
            await channel.request(opening(swarm, CHILD, PARENT, 128, max_rows=768))  # PARENT was used last
            await channel.request(Close(CHILD))
            stranger = await call(swarm, 201)
            await stranger.request(opening(swarm, CHILD, max_rows=896))
            assert isinstance(await channel.request(Renew(PARENT)), Opened)
            with pytest.raises(SessionFault):
                await channel.request(Renew(OTHER))
            with pytest.raises(Overloaded):
                await channel.request(opening(swarm, OTHER, max_rows=192))
            assert isinstance(
                await channel.request(Renew(PARENT)), Opened
            )  # for nothing: it would not have been enough
            await stranger.aclose()

    run_virtual(main())


def test_a_parent_is_not_dropped_for_its_own_child(model: Path) -> None:
    async def main() -> None:
        async with one_worker(model, cache_rows=512) as (swarm, channel):
            await channel.request(opening(swarm, PARENT))
            await feed(channel, PARENT, "fp32", 0, 128)
            await channel.request(Renew(PARENT, idle=True))
            with pytest.raises(Overloaded):
                await channel.request(opening(swarm, CHILD, PARENT, 128, max_rows=500))
            await channel.request(opening(swarm, CHILD, max_rows=500))
            with pytest.raises(SessionFault):
                await channel.request(Renew(PARENT))

    run_virtual(main())


def test_kept_sessions_lapse_and_go_when_the_worker_drains(model: Path) -> None:
    async def main() -> None:
        async with one_worker(model) as (swarm, channel):
            service = swarm.workers[0].service
            for name in (PARENT, OTHER):
                await channel.request(opening(swarm, name))
                await feed(channel, name, "fp32", 0, 128)
            await channel.request(Renew(PARENT, idle=True))
            await asyncio.sleep(40)
            await channel.request(Renew(OTHER, idle=True))
            await asyncio.sleep(40)
            assert service.load().sessions == 0
            with pytest.raises(SessionFault):
                await channel.request(Renew(PARENT))
            service.drain()
            assert service.stage.pool.reserved == 0
            await service.drained()

    run_virtual(main())


def test_a_draining_worker_keeps_nothing(model: Path) -> None:
    async def main() -> None:
        async with one_worker(model) as (swarm, channel):
            service = swarm.workers[0].service
            await channel.request(opening(swarm, PARENT))
            service.drain()
            with pytest.raises(SessionFault, match="shutting down"):
                await channel.request(Renew(PARENT, idle=True))
            await service.drained()
            assert service.stage.pool.reserved == 0

    run_virtual(main())


def test_a_copy_that_fails_for_want_of_memory_leaves_nothing(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with one_worker(model) as (swarm, channel):
            await channel.request(opening(swarm, PARENT))
            await feed(channel, PARENT, "fp32", 0, 128)

            def refuse(*args: object) -> None:
                raise MemoryError

            with monkeypatch.context() as patch:
                patch.setattr(engine_cache.SessionCache, "copy", refuse)
                with pytest.raises(Overloaded, match="memory"):
                    await channel.request(opening(swarm, CHILD, PARENT, 128))
            assert swarm.workers[0].service.load().sessions == 1
            await channel.request(Close(PARENT))
            assert swarm.workers[0].service.stage.pool.reserved == 0

    run_virtual(main())


def test_both_may_be_closed_while_rows_are_copied(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with one_worker(model) as (swarm, channel):
            service = swarm.workers[0].service
            await channel.request(opening(swarm, PARENT))
            await feed(channel, PARENT, "fp32", 0, 128)
            begun, go_on = asyncio.Event(), asyncio.Event()
            compute = service._compute.run

            async def slowly(function):  # type: ignore[no-untyped-def]
                begun.set()
                await go_on.wait()
                return await compute(function)

            monkeypatch.setattr(service._compute, "run", slowly, raising=False)
            asking = asyncio.create_task(channel.request(opening(swarm, CHILD, PARENT, 128)))
            await begun.wait()
            await channel.request(Close(PARENT))
            await channel.request(Close(CHILD))
            assert service.load().sessions == 0
            go_on.set()
            with pytest.raises(SessionFault, match="closed while"):
                await asking
            assert service.stage.pool.reserved == 0

    run_virtual(main())
