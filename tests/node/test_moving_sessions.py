"""One answer goes on while its worker moves to other layers, and then while one that alone held layers leaves: real nodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

from support.models import make_model

from swarm import Client
from swarm.client import Options
from swarm.client.generate import Answer, Token
from swarm.config import NodeConfig, SpanConfig, WorkerConfig
from swarm.identity import Identity
from swarm.node import Node
from swarm.span import LayerSpan

PROMPT = [3, 14, 15, 92, 65]
TOKENS = 60
FEW = 5  # tokens between two events
CONFIG = WorkerConfig(move_every=0.2, claim_seconds=0.2, move_seconds=0.2, look_again_seconds=0.1)


def test_an_answer_survives_a_move_and_a_leave(tmp_path: Path) -> None:
    async def main() -> None:
        model = make_model(tmp_path / "m", num_hidden_layers=4, tokenizer=True)
        async with Client(model, local=True, precision="fp32") as alone:
            whole = alone.generate(PROMPT, options=Options(max_tokens=TOKENS, ignore_eos=True))
            await whole.read()
        told: list[str] = []
        async with AsyncExitStack() as stack:
            bootstrap = await stack.enter_async_context(
                Node(NodeConfig("127.0.0.1", 0), Identity.generate(), progress=told.append)
            )
            place = ("127.0.0.1", bootstrap.ports[1])

            async def worker(layers: LayerSpan | None, where: AsyncExitStack = stack) -> Node:
                serve = SpanConfig(model, layers, "fp32", most_layers=2)
                config = NodeConfig("127.0.0.1", 0, bootstrap=(place,))
                node = Node(config, Identity.generate(), serve=serve, worker_config=CONFIG, progress=told.append)
                return await where.enter_async_context(node)

            end = await stack.enter_async_context(AsyncExitStack())
            leaver = await worker(LayerSpan(2, 4), end)
            await worker(None)  # the only one left for the first two
            client = await stack.enter_async_context(Client(model, bootstrap=[place], precision="fp32"))
            answer = client.generate(PROMPT, options=Options(max_tokens=TOKENS, ignore_eos=True))
            ids = [token.id async for token in until(answer, FEW)]
            await worker(LayerSpan(0, 2))  # from now on the mover is free to go
            ids += [token.id async for token in until(answer, FEW)]
            leaving = asyncio.create_task(leaver.drain())
            while not leaving.done():
                ids += [token.id async for token in until(answer, 1)]
                await asyncio.sleep(0.1)
            await leaving
            await end.aclose()
            ids += [token.id async for token in answer]
            assert ids == list(whole.token_ids)
            assert any("nobody else holds layers 2-3" in text for text in told)
            assert "moved from layers 0-1 to 2-3" in told
            assert len(answer.session.recoveries) >= 2
            assert answer.session.exact

    asyncio.run(asyncio.wait_for(main(), 60))


async def until(answer: Answer, count: int) -> AsyncIterator[Token]:
    """So many tokens more."""
    for _ in range(count):
        try:
            yield await anext(answer)
        except StopAsyncIteration:
            return
