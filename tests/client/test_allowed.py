"""Workers that serve named peers only: the client goes to others, and is told soon where there are none."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from support.models import make_model
from support.swarm import LocalSwarm, LocalWorker

from swarm.client.failover import replacing
from swarm.client.generate import Options
from swarm.errors import NotAllowed

OPTIONS = Options(max_tokens=4, ignore_eos=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"), tokenizer=True)


def refuse(worker: LocalWorker) -> None:
    async def handler(message: object, exchange: object) -> None:
        raise NotAllowed("it serves only peers named with --allow")

    worker.handler = handler  # type: ignore[assignment]


def test_a_worker_that_refuses_us_is_left_for_one_that_does_not(model: Path) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 4), (0, 4)]) as swarm, swarm.client() as client:
            for refusing, willing in (swarm.workers, swarm.workers[::-1]):
                refuse(refusing)
                answer = client.generate([1, 2, 3], options=OPTIONS)
                await answer.read()
                assert answer.session.chain.hops[0].peer_id == willing.peer_id
                refusing.handler = None

    asyncio.run(main())


def test_when_everybody_refuses_us_we_are_told_soon(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replacing, "REFUSED_SECONDS", 0.4)

    async def main() -> None:
        async with LocalSwarm(model, [(0, 2), (2, 4), (2, 4)]) as swarm, swarm.client() as client:
            refuse(swarm.workers[1])
            refuse(swarm.workers[2])
            began = asyncio.get_running_loop().time()
            with pytest.raises(NotAllowed, match=r"does not serve us: it serves only peers named with --allow"):
                await client.generate([1, 2, 3], options=OPTIONS).read()
            assert asyncio.get_running_loop().time() - began < client.config.deadline_seconds / 10
            await swarm.freed(10)

    asyncio.run(main())
