"""What a failed or cancelled request held is free at once: a prompt's rows must not wait for a full garbage collection."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.clock import run_virtual
from support.garbage import no_circles
from support.models import make_model
from support.swarm import LocalSwarm

from swarm.client.heads import Heads, Wish
from swarm.config import ChannelConfig
from swarm.errors import LocalFault, PeerFault, SessionFault, SwarmError
from swarm.gateway.generation.concurrency import gather_all
from swarm.gateway.http.sse import while_connected
from swarm.identity import Identity
from swarm.sampling import Sampling
from swarm.span import LayerSpan
from swarm.transport.channels.dial import dial
from swarm.wire.messages import Close, Forward, Open
from swarm.wire.rows import Rows
from swarm.wire.tensors import Tensor
from swarm.worker.batcher import Batcher

TIMES = 5
HIDDEN, ROWS = 64, 100
NAME = b"n" * 16


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"), hidden_size=HIDDEN)


def test_a_prompt_whose_session_is_closed_while_it_is_computed(model: Path) -> None:
    rows = Tensor("fp32", (ROWS, HIDDEN), memoryview(bytes(ROWS * HIDDEN * 4)))

    async def main() -> None:
        async with LocalSwarm(model, [(1, 3)]) as swarm:
            worker, me = swarm.workers[0], Identity.from_seed(bytes(31) + b"\1")
            channel = await dial(swarm.hub.node(me.peer_id), (worker.address,), worker.peer_id, ChannelConfig())

            async def cut_short() -> None:
                await channel.request(Open(NAME, swarm.model.digest, LayerSpan(1, 3), "fp32", ROWS))
                prompt = asyncio.ensure_future(channel.request(Forward(NAME, 0, 0, Rows.CHUNK, rows)))
                while not worker.service._steps:  # noqa: ASYNC110  (it begins at once)
                    await asyncio.sleep(0)
                await channel.request(Close(NAME))
                try:
                    with pytest.raises(PeerFault, match="closed while its step was computed"):
                        await prompt
                finally:
                    del prompt

            await cut_short()
            with no_circles(SwarmError, Forward, asyncio.Task):
                for _ in range(TIMES):
                    await cut_short()
                await asyncio.sleep(0)
            await channel.aclose()

    run_virtual(main())


def test_rows_that_the_stage_fails_on(model: Path) -> None:
    class Failing:
        async def run(self, function: Any) -> Any:
            raise LocalFault("the stage failed")

    async def main() -> None:
        async with Batcher(object(), Failing(), list, max_queue_rows=100) as batcher:  # type: ignore[arg-type]

            async def once() -> None:
                with pytest.raises(LocalFault):
                    await batcher.submit(object(), 0, object(), 1, Rows.DECODE)

            await once()
            with no_circles(SwarmError):
                for _ in range(TIMES):
                    await once()

    run_virtual(main())


def test_a_token_that_cannot_be_drawn() -> None:
    class Failing:
        async def run(self, function: Any) -> Any:
            raise LocalFault("the head failed")

    async def main() -> None:
        heads, row = Heads(object(), Failing()), Tensor("fp32", (1, 1), memoryview(bytes(4)))  # type: ignore[arg-type]
        with no_circles(SwarmError):
            for _ in range(TIMES):
                with pytest.raises(LocalFault):
                    await heads.pick(row, Wish(Sampling(), 0), [1])
            await asyncio.sleep(0)

    run_virtual(main())


async def _fails() -> None:
    await asyncio.sleep(0)
    raise SessionFault("no more")


def test_http_requests_that_fail() -> None:
    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    async def main() -> None:
        with no_circles(SwarmError, asyncio.Task):
            for _ in range(TIMES):
                with pytest.raises(SessionFault):
                    await while_connected(receive, _fails())
                with pytest.raises(SessionFault):
                    await gather_all([_fails(), asyncio.sleep(100)])

    run_virtual(main())


def test_the_check_itself_sees_a_circle() -> None:
    def circle() -> Sequence[Any]:
        one: list[Any] = [SessionFault("held")]
        one.append(one)
        return one

    with pytest.raises(AssertionError, match="SwarmError': 1"), no_circles(SwarmError):
        circle()
