"""A client that insists on one numerics class: which chains it takes, and that it rather ends than goes on in another."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from support.models import make_model
from support.swarm import LocalSwarm

from swarm.client.generate import Answer, Options
from swarm.config import ClientConfig
from swarm.errors import DeadlineExceeded, NoChain, SwarmError, UsageFault
from swarm.span import LayerSpan

CONFIG = ClientConfig(open_seconds=0.2, deadline_seconds=1, exact=True)
OPTIONS = Options(max_tokens=6, ignore_eos=True)
PROMPT = list(range(20))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"), tokenizer=True)


async def mixed(swarm: LocalSwarm, *spans: LayerSpan) -> None:
    """Workers whose kernels are torch's, beside portable ones."""
    swarm.numerics = "native"
    for span in spans:
        await swarm.add(span)


async def answered(swarm: LocalSwarm, config: ClientConfig, **how: object) -> Answer:
    swarm.client_config = config
    async with swarm.client(**how) as client:  # type: ignore[arg-type]
        answer = client.generate(PROMPT, options=OPTIONS)
        await answer.read()
        return answer


def test_a_chain_of_several_classes_is_refused_naming_who_serves_what(model: Path) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 2)], numerics="portable") as swarm:
            await mixed(swarm, LayerSpan(2, 4))
            portable, native = swarm.workers
            assert not (await answered(swarm, replace(CONFIG, exact=False))).session.exact  # type: ignore[union-attr]
            by_hand = {"chain": [worker.peer_id for worker in swarm.workers]}
            for error, how in ((NoChain, {}), (UsageFault, by_hand)):
                with pytest.raises(error, match="no numerics class serves all of layers 0-3") as refused:
                    await answered(swarm, CONFIG, **how)
                for worker, layers in ((portable, "layers 0-1"), (native, "layers 2-3")):
                    told = f"{worker.service.stage.numerics} has {layers} ({worker.peer_id.hex()[:8]}"
                    assert told in str(refused.value)
            await mixed(swarm, LayerSpan(0, 2))
            answer = await answered(swarm, CONFIG)
            assert answer.session.exact  # type: ignore[union-attr]
            with pytest.raises(NoChain, match="nobody in the numerics class portable-1:fp32"):
                await answered(swarm, replace(CONFIG, numerics="portable-1:fp32"))

    asyncio.run(asyncio.wait_for(main(), 60))


def test_an_answer_ends_rather_than_go_on_in_another_class(model: Path) -> None:
    async def main(config: ClientConfig) -> Answer | SwarmError:
        async with LocalSwarm(model, [(0, 2), (2, 4)], numerics="portable", client_config=config) as swarm:
            await mixed(swarm, LayerSpan(2, 4))
            async with swarm.client() as client:
                answer = client.generate(PROMPT, options=OPTIONS)
                try:
                    async for token in answer:
                        if token.index == 2:
                            swarm.workers[1].kill()
                except SwarmError as error:
                    return error
                return answer

    ended = asyncio.run(asyncio.wait_for(main(CONFIG), 60))
    assert isinstance(ended, NoChain | DeadlineExceeded)
    assert "nobody in the numerics class portable-1:fp32" in str(ended)
    went_on = asyncio.run(asyncio.wait_for(main(replace(CONFIG, exact=False, deadline_seconds=20)), 60))
    assert isinstance(went_on, Answer)
    assert not went_on.session.exact  # type: ignore[union-attr]


def test_who_computes_in_another_class_than_announced_is_not_used(model: Path) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 2), (2, 4)], numerics="portable") as swarm:
            await mixed(swarm, LayerSpan(2, 4))
            swarm.workers[1].kill()
            swarm.workers[2].announce(numerics="portable-1:fp32")
            with pytest.raises(SwarmError, match=r"computes in .*, and announced portable-1:fp32"):
                await answered(swarm, CONFIG)

    asyncio.run(asyncio.wait_for(main(), 60))
