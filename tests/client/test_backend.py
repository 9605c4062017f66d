"""A swarm whose workers and client compute with the transformers library keeps the same promises."""

from __future__ import annotations

import asyncio
from functools import cache
from pathlib import Path

import pytest
from support.library import make_library_model
from support.swarm import LocalSwarm

from swarm.client import Answer, Client
from swarm.client.generate import Options
from swarm.config import ClientConfig
from swarm.sampling import Sampling
from swarm.trace import Event, Trace

SPANS = [(0, 1), (1, 3)]
PROMPT = [(7 * index) % 250 for index in range(200)]  # two chunks of the grid
TOKENS = 12
OPTIONS = Options(max_tokens=TOKENS, sampling=Sampling(temperature=1.0, top_k=50, seed=11), ignore_eos=True)
BACKEND = "transformers"
MOMENTS = {"first chunk": 0, "mid-prompt": 128, "first decode": len(PROMPT), "last": len(PROMPT) + TOKENS - 2}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_library_model(tmp_path_factory.mktemp("model"), "starcoder2", tokenizer=True)


@cache
def unsplit(model: Path, precision: str, prompt: tuple[int, ...] = tuple(PROMPT)) -> list[int]:
    async def main() -> list[int]:
        async with Client(model, local=True, precision=precision, backend=BACKEND) as client:
            return await tokens(client.generate(prompt, options=OPTIONS))

    return asyncio.run(main())


async def tokens(answer: Answer) -> list[int]:
    return [token.id async for token in answer]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("victim", range(len(SPANS)))
def test_a_worker_dies(model: Path, precision: str, moment: str, victim: int) -> None:
    expected = unsplit(model, precision)
    killed: list[str] = []

    async def main() -> None:
        config = ClientConfig(deadline_seconds=20)
        async with LocalSwarm(
            model, [*SPANS, *SPANS], precision=precision, client_config=config, backend=BACKEND
        ) as swarm:

            def kill(event: Event) -> None:
                if killed or (event.name, event.phase) != ("hop.forward", "started"):
                    return
                worker = swarm.worker(event.details["peer"])
                if event.details["position"] == MOMENTS[moment] and worker.span.start == SPANS[victim][0]:
                    killed.append(event.details["peer"])
                    worker.kill()

            async with swarm.client(Trace(kill)) as client:
                answer = client.generate(PROMPT, options=OPTIONS)
                assert await tokens(answer) == expected
            assert len(killed) == 1
            assert answer.session.exact  # type: ignore[union-attr]
            assert len(list(answer.session.recoveries)) == 1  # type: ignore[union-attr]

    asyncio.run(asyncio.wait_for(main(), 60))


def test_sessions_together_as_each_alone_and_a_prompt_that_begins_as_another(model: Path) -> None:
    prompts = [tuple(PROMPT[start:]) for start in (0, 20, 60)]
    expected = [unsplit(model, "fp32", prompt) for prompt in prompts]
    longer = (*PROMPT[:128], 9, 8, 7)
    expected_longer = unsplit(model, "fp32", longer)

    async def main() -> None:
        async with LocalSwarm(model, SPANS, backend=BACKEND) as swarm, swarm.client() as client:
            answers = [client.generate(prompt, options=OPTIONS) for prompt in prompts]
            assert await asyncio.gather(*map(tokens, answers)) == expected
            again = client.generate(longer, options=OPTIONS)
            assert await tokens(again) == expected_longer
            assert again.cached_tokens == 128

    asyncio.run(asyncio.wait_for(main(), 60))
