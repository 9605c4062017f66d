"""A worker of an encoder's layers: one chunk a session, no cache, and rows in flight are what is counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import torch
from support.clock import run_virtual
from support.embedders import make_embedder
from support.swarm import LocalSwarm

from swarm.config import ChannelConfig, WorkerConfig
from swarm.errors import Overloaded, PeerFault, SessionFault
from swarm.identity import Identity
from swarm.span import LayerSpan
from swarm.transport.channels.channel import Channel
from swarm.transport.channels.dial import dial
from swarm.wire.messages import Close, Forward, Open, Opened, Renew, Result
from swarm.wire.rows import Rows
from swarm.wire.tensors import Tensor

HIDDEN = 64
NAMES = [bytes([number]) * 16 for number in range(4)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_embedder(tmp_path_factory.mktemp("model"))


@asynccontextmanager
async def one_worker(model: Path, **config: int) -> AsyncIterator[tuple[LocalSwarm, Channel]]:
    async with LocalSwarm(model, [(0, 3)], worker_config=WorkerConfig(**config)) as swarm:  # type: ignore[arg-type]
        identity, worker = Identity.from_seed(bytes(31) + b"\xc8"), swarm.workers[0]
        channel = await dial(swarm.hub.node(identity.peer_id), (worker.address,), worker.peer_id, ChannelConfig())
        yield swarm, channel
        await channel.aclose()


def opening(swarm: LocalSwarm, name: bytes, max_rows: int = 300, **more: object) -> Open:
    return Open(name, swarm.model.digest, LayerSpan(0, 3), "fp32", max_rows, **more)  # type: ignore[arg-type]


def forward(name: bytes, rows: int, step: int = 0, position: int = 0, kind: Rows = Rows.CHUNK) -> Forward:
    data = torch.randn(rows, HIDDEN, generator=torch.Generator().manual_seed(rows)).numpy().tobytes()
    return Forward(name, step, position, kind, Tensor("fp32", (rows, HIDDEN), memoryview(data)))


def test_a_text_of_any_length_is_one_chunk_and_holds_no_cache(model: Path) -> None:
    async def main() -> None:
        async with one_worker(model) as (swarm, channel):
            service = swarm.workers[0].service
            assert isinstance(await channel.request(opening(swarm, NAMES[0])), Opened)
            first = await channel.request(forward(NAMES[0], 300))
            assert isinstance(first, Result)
            assert first.receipt is not None
            assert (first.receipt.start, first.receipt.stop) == (0, 300)
            assert (service.stage.pool.reserved, service.load().sessions) == (0, 1)
            assert await channel.request(forward(NAMES[0], 300)) == first  # a reply that was lost
            again = await channel.request(forward(NAMES[0], 300, step=1))
            assert isinstance(again, Result)
            assert bytes(again.tensor.data) == bytes(first.tensor.data)
            await channel.request(Close(NAMES[0]))

    run_virtual(main())


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (forward(NAMES[0], 1, 1, 20), "all rows of a text at once"),
        (forward(NAMES[0], 1, 1, 20, Rows.DECODE), "all rows of a text at once"),
        (forward(NAMES[0], 1, 1, 0, Rows.DECODE), "all rows of a text at once"),
        (forward(NAMES[0], 301, 1), "crosses the grid of 300"),
    ],
)
def test_a_session_has_no_second_step(model: Path, second: Forward, said: str) -> None:
    async def main() -> None:
        async with one_worker(model) as (swarm, channel):
            await channel.request(opening(swarm, NAMES[0]))
            await channel.request(forward(NAMES[0], 20))
            with pytest.raises(PeerFault, match=said):
                await channel.request(second)

    run_virtual(main())


def test_no_session_begins_with_another_s_rows(model: Path) -> None:
    async def main() -> None:
        async with one_worker(model) as (swarm, channel):
            await channel.request(opening(swarm, NAMES[0]))
            await channel.request(forward(NAMES[0], 128))
            with pytest.raises(PeerFault, match="sees those that follow"):
                await channel.request(opening(swarm, NAMES[1], parent=NAMES[0], parent_rows=128))
            assert swarm.workers[0].service.load().sessions == 1
            await channel.request(Renew(NAMES[0], idle=True))
            assert swarm.workers[0].service.kept_bytes == 0
            with pytest.raises(SessionFault):
                await channel.request(forward(NAMES[0], 1, 1))

    run_virtual(main())


def test_rows_in_flight_are_what_is_counted(model: Path) -> None:
    async def main() -> None:
        async with one_worker(model, max_queue_rows=700) as (swarm, channel):
            service = swarm.workers[0].service
            assert service.load().cache_tokens_free == 700
            for name in NAMES:
                await channel.request(opening(swarm, name))
            tasks = [asyncio.create_task(channel.request(forward(name, 200))) for name in NAMES]
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            refused = [answer for answer in answers if isinstance(answer, Overloaded)]
            assert len(refused) == len(answers) - sum(isinstance(answer, Result) for answer in answers) > 0
            assert "rows that wait here" in str(refused[0])
            assert service.load().cache_tokens_free == 700
            again = await channel.request(forward(NAMES[3], 200, step=1))
            assert isinstance(again, Result)

    run_virtual(main())
