"""Random swarms, random deaths: whatever happens, the tokens are those of the unsplit run, and nothing stays behind."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from support.clock import run_virtual
from support.models import make_model
from support.swarm import LocalSwarm, LocalWorker

from swarm.client import Client
from swarm.client.generate import Options
from swarm.config import ClientConfig
from swarm.sampling import Sampling
from swarm.span import LayerSpan
from swarm.trace import Event, Trace

LAYERS = 4
MOST_TOKENS = 10
SEEDS = range(50)
Ask = tuple[tuple[int, ...], Sampling]


def asks() -> list[Ask]:
    """A dozen prompts, some of several chunks, half of them sampled."""
    chance = random.Random(0)
    lengths = [1, 2, 17, 100, 127, 128, 129, 140, 200, 256, 257, 300]
    return [
        (
            tuple(chance.randrange(250) for _ in range(length)),
            Sampling() if index % 2 else Sampling(temperature=1.0, top_p=0.95, seed=index),
        )
        for index, length in enumerate(lengths)
    ]


ASKS = asks()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"), tokenizer=True, hidden_size=32, tie_word_embeddings=False)


@pytest.fixture(scope="module")
def expected(model: Path) -> dict[Ask, list[int]]:
    async def main() -> dict[Ask, list[int]]:
        found = {}
        async with Client(model, local=True, precision="fp32") as client:
            for ask in ASKS:
                answer = client.generate(ask[0], options=options(ask, MOST_TOKENS))
                await answer.read()
                found[ask] = answer.token_ids
        return found

    return asyncio.run(main())


def options(ask: Ask, tokens: int) -> Options:
    return Options(max_tokens=tokens, sampling=ask[1], ignore_eos=True)


class Fate:
    """Decides, whenever rows are about to leave for a worker, whether something befalls somebody."""

    def __init__(self, chance: random.Random, swarm: LocalSwarm, most: int) -> None:
        self._chance = chance
        self._swarm = swarm
        self._left = most
        self._tasks: set[asyncio.Task[None]] = set()
        self.log: list[str] = []

    def __call__(self, event: Event) -> None:
        if event.name != "hop.forward" or not self._left or self._chance.random() > 0.1:
            return
        self._left -= 1
        victim = self._chance.choice(self._swarm.workers)
        if self._chance.random() < 0.6:
            victim = self._swarm.worker(event.details["peer"])
        if not victim.alive:
            return
        act = self._chance.choice(["kill", "kill", "freeze", "cut off", "restart", "join"])
        self.log.append(f"{act} {victim.span}")
        if act == "join":
            self._later(self._join(0.0))
        elif act == "freeze":
            victim.freeze()
            self._later(self._thaw(victim, self._chance.uniform(0.0, 12.0)))
        elif act == "cut off":
            for stream in tuple(self._swarm.hub.node(victim.peer_id).streams):
                stream.abort()
        else:
            victim.kill()
            delay = self._chance.uniform(0.0, 4.0)
            self._later(self._restart(victim, delay) if act == "restart" else self._mend(victim.span, delay))

    async def settled(self) -> None:
        """Everything that was set in motion has happened."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _mend(self, span: LayerSpan, delay: float) -> None:
        """Where a death left a hole, somebody comes after a while."""
        held = [layer for worker in self._swarm.workers if worker.alive for layer in worker.span]
        if set(span) - set(held):
            await asyncio.sleep(delay)
            await self._swarm.add(span)

    async def _join(self, delay: float) -> None:
        await asyncio.sleep(delay)
        await self._swarm.add_span(*_span(self._chance))

    async def _thaw(self, victim: LocalWorker, delay: float) -> None:
        await asyncio.sleep(delay)
        victim.thaw()

    async def _restart(self, victim: LocalWorker, delay: float) -> None:
        """The same key, other ports, and nothing remembered."""
        await asyncio.sleep(delay)
        await victim.start()


def _span(chance: random.Random) -> tuple[int, int]:
    start = chance.randrange(LAYERS)
    return start, chance.randrange(start + 1, LAYERS + 1)


def _spans(chance: random.Random) -> list[tuple[int, int]]:
    """Some that cover the model, and a few that overlap at random."""
    cuts = sorted({0, LAYERS, *(chance.randrange(1, LAYERS) for _ in range(2))})
    return [*pairwise(cuts), *(_span(chance) for _ in range(chance.randrange(1, 5)))]


async def _one_answer(client: Client, chance: random.Random, expected: dict[Ask, list[int]]) -> None:
    """Read to its end, or left early in one of the ways in which a caller can leave."""
    ask = chance.choice(ASKS)
    tokens = chance.randrange(1, MOST_TOKENS + 1)
    answer = client.generate(ask[0], options=options(ask, tokens))
    left = chance.choice([None, None, None, "closed", "cancelled"])
    if left is None:
        await answer.read()
        assert answer.token_ids == expected[ask][:tokens]
        assert answer.session.exact  # type: ignore[union-attr]
    elif left == "closed":
        async for token in answer:
            if token.index >= tokens // 2:
                break
        await answer.aclose()
        assert answer.token_ids == expected[ask][: len(answer.token_ids)]
    else:
        reading = asyncio.create_task(answer.read())
        await asyncio.wait({reading}, timeout=chance.choice([0.0, 0.0001, 0.01, 0.5, 4.0]))
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        assert answer.token_ids == expected[ask][: len(answer.token_ids)]


async def _one_swarm(seed: int, model: Path, expected: dict[Ask, list[int]]) -> None:
    chance = random.Random(seed)
    config = ClientConfig(deadline_seconds=100)
    async with LocalSwarm(model, _spans(chance), client_config=config) as swarm:
        swarm.hub.latency = chance.choice([0.0, 0.0, 0.003])
        fate = Fate(chance, swarm, most=chance.randrange(8))
        try:
            async with swarm.client(Trace(fate)) as one, swarm.client(Trace(fate)) as two:
                answers = [
                    _one_answer(chance.choice([one, two]), chance, expected) for _ in range(chance.randrange(1, 6))
                ]
                await asyncio.gather(*answers)
        except BaseException as error:
            error.add_note(f"seed {seed}: {'; '.join(fate.log)}")
            raise
        await fate.settled()
        await swarm.freed(5)  # the clients are gone
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_happens_the_tokens_are_those_of_the_unsplit_run(
    model: Path, expected: dict[Ask, list[int]], seed: int
) -> None:
    run_virtual(_one_swarm(seed, model, expected))
