"""A model that cannot be cut everywhere, and rows that carry their tokens' ids: chains leave both whole, whoever dies or lies."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.families_gemma4 import make_gemma4
from support.swarm import LocalSwarm, LocalWorker

from swarm.client import Client, Options
from swarm.span import LayerSpan
from swarm.trace import Event, Trace
from swarm.wire.messages import Result

PROMPT = list(range(40, 60))
OPTIONS = Options(max_tokens=12, ignore_eos=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five layers, of which 1 to 4 stand together, and which take something of a row's token themselves."""
    tokens = {"vocab_size_per_layer_input": 288, "hidden_size_per_layer_input": 24}
    return make_gemma4(tmp_path_factory.mktemp("bonds") / "shared", "gemma4-shared", **tokens)


async def unsplit(model: Path) -> list[int]:
    async with Client(model, local=True, precision="fp32") as client:
        answer = client.generate(PROMPT, options=OPTIONS)
        await answer.read()
        return answer.token_ids


def test_workers_of_overlapping_spans_and_one_that_announces_a_part(model: Path) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 5), (0, 1), (1, 5), (1, 5)]) as swarm:
            liar = await swarm.add_span(0, 5)
            liar.announce(span=LayerSpan(0, 3))
            async with swarm.client() as client:
                answer = client.generate(PROMPT, options=OPTIONS)
                for _ in range(5):
                    await anext(answer)
                assert answer.session is not None
                used = answer.session.chain.hops
                assert liar.peer_id not in {hop.peer_id for hop in used}
                assert all(hop.span in (LayerSpan(0, 5), LayerSpan(0, 1), LayerSpan(1, 5)) for hop in used)
                swarm.worker(used[-1].peer_id.short).kill()
                await answer.read()
                assert answer.token_ids == await unsplit(model)

    asyncio.run(main())


def test_a_swarm_of_parts_is_no_chain_and_says_why(model: Path) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 1), (1, 5)]) as swarm:
            swarm.workers[0].announce(span=LayerSpan(0, 3))
            swarm.workers[1].announce(span=LayerSpan(3, 5))
            told, why = Trace(), asyncio.get_running_loop().create_future()

            def listen(event: Event) -> None:
                if event.name == "session.wait" and not why.done():
                    why.set_result(event.details["reason"])

            told.listen(listen)
            async with swarm.client(trace=told) as client:
                answer = client.generate(PROMPT, options=OPTIONS)
                reading = asyncio.ensure_future(answer.read())
                assert "2 of no use without all of layers 1-4" in await why
                reading.cancel()
                await asyncio.wait([reading])

    asyncio.run(main())


def test_who_changes_the_ids_that_rows_carry_is_left(model: Path) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 1), (0, 1), (1, 5)]) as swarm:
            liars: list[LocalWorker] = []

            def lying(worker: LocalWorker) -> Any:
                async def handle(message: Any, exchange: Any) -> Any:
                    reply = await worker.service.handle(message, exchange)
                    if isinstance(reply, Result) and worker in (liars or [worker]):
                        liars[:] = [worker]
                        data = bytearray(reply.tensor.data)
                        data[-1] ^= 1
                        return replace(reply, tensor=replace(reply.tensor, data=memoryview(data)))
                    return reply

                return handle

            for worker in swarm.workers[:2]:
                worker.handler = lying(worker)
            events: list[Event] = []
            async with swarm.client(trace=Trace(events.append)) as client:
                answer = client.generate(PROMPT, options=OPTIONS)
                await answer.read()
                assert answer.token_ids == await unsplit(model)
            assert any("changed what rows only carry" in str(event) for event in events)

    asyncio.run(main())
