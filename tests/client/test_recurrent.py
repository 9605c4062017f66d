"""Models whose layers keep states: whoever dies, whatever is reused and whoever audits, the tokens are the unsplit model's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.audits import First, Seen
from support.clock import run_virtual
from support.families_recurrent import CONFIGS
from support.models import make_model_of
from support.swarm import LocalSwarm

from swarm.client import Client
from swarm.client.generate import Answer, Options
from swarm.config import ClientConfig
from swarm.engine.row_tensors import zero_rows
from swarm.trace import Event, Trace

SPANS = [(0, 1), (1, 2), (2, 3)]  # each layer alone: a state, rows, a state
PROMPT = [(7 * index) % 250 for index in range(300)]
TOKENS = 12
OPTIONS = Options(max_tokens=TOKENS, ignore_eos=True)
# When to kill, as the position whose rows are on their way to the victim
MOMENTS = {"first chunk": 0, "mid-prompt": 128, "last chunk": 256, "first decode": 300, "middle": 305}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_of(tmp_path_factory.mktemp("model"), CONFIGS["qwen3-next"])


@pytest.fixture(scope="module", params=["fp32", "bf16"])
def precision(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def unsplit(model: Path, precision: str) -> list[int]:
    return asyncio.run(locally(model, precision, PROMPT))


async def locally(model: Path, precision: str, prompt: Sequence[int]) -> list[int]:
    async with Client(model, local=True, precision=precision) as client:
        return (await ask(client, prompt)).token_ids


async def ask(client: Client, prompt: Sequence[int], **options: bool) -> Answer:
    answer = client.generate(prompt, options=OPTIONS, **options)
    await answer.read()
    return answer


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("victim", range(len(SPANS)))
def test_a_worker_dies(model: Path, precision: str, unsplit: list[int], victim: int, moment: str) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [*SPANS, *SPANS], precision=precision) as swarm:
            killed: list[str] = []

            def kill(event: Event) -> None:
                if killed or (event.name, event.phase) != ("hop.forward", "started"):
                    return
                worker = swarm.worker(event.details["peer"])
                if event.details["position"] == MOMENTS[moment] and worker.span.start == victim:
                    killed.append(event.details["peer"])
                    worker.kill()

            async with swarm.client(Trace(kill)) as client:
                answer = await ask(client, PROMPT)
            assert answer.token_ids == unsplit
            assert len(killed) == len(answer.session.recoveries) == 1  # type: ignore[union-attr]
            assert answer.session.exact  # type: ignore[union-attr]

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_worker_that_cannot_go_back_is_replayed(model: Path, precision: str, unsplit: list[int]) -> None:
    """It was asked to undo more than its last call: it says so, and the session goes on elsewhere."""

    async def main() -> None:
        async with LocalSwarm(model, [*SPANS, *SPANS], precision=precision) as swarm:
            moved = False

            def forget(event: Event) -> None:
                nonlocal moved
                if moved or (event.name, event.phase) != ("hop.forward", "started") or event.details["position"] != 300:
                    return
                service = swarm.worker(event.details["peer"]).service
                for slot in service._sessions:
                    for _ in range(4):  # rows that the client knows nothing of
                        stage = service.stage
                        stage.decode([(slot.cache, zero_rows(1, stage.hidden, stage.dtype, stage.device))])
                moved = True

            async with swarm.client(Trace(forget)) as client:
                answer = await ask(client, PROMPT)
            assert answer.token_ids == unsplit
            assert "cannot go back from 304 to 300" in answer.session.recoveries[0].cause  # type: ignore[union-attr]

    asyncio.run(asyncio.wait_for(main(), 60))


LONG = [(11 * index) % 250 for index in range(800)]  # six chunks and a part


@pytest.mark.parametrize("spans", [SPANS, [(0, 3)]])
@pytest.mark.parametrize(("shared", "reused"), [(800, 768), (767, 384), (300, 128), (127, 0)])
def test_a_hit_and_a_miss_give_equal_tokens(
    model: Path, spans: list[tuple[int, int]], shared: int, reused: int
) -> None:
    """Others may begin where a state is held; workers that keep rows only would have given more of them."""
    prompt = LONG[:shared] + [9] * (830 - shared)

    async def main() -> None:
        async with LocalSwarm(model, spans) as swarm:
            async with swarm.client() as client:
                await ask(client, LONG)
                hit = await ask(client, prompt)
                miss = await ask(client, prompt, reuse=False)
                assert (hit.cached_tokens, miss.cached_tokens) == (reused, 0)
                assert hit.token_ids == miss.token_ids
                assert not hit.session.recoveries  # type: ignore[union-attr]
                longer = await ask(client, prompt + hit.token_ids + [7] * 100)
                assert longer.cached_tokens == 768
                anew = await ask(client, prompt + hit.token_ids + [7] * 100, reuse=False)
                assert longer.token_ids == anew.token_ids
            for worker in swarm.workers:
                await worker.idle()
                assert worker.service.stage.pool.reserved == 0

    run_virtual(main())


def test_what_has_ended_is_kept_for_what_it_takes(model: Path) -> None:
    async def main() -> None:
        async with LocalSwarm(model, SPANS) as swarm:
            async with swarm.client() as client:
                await ask(client, PROMPT)
                for worker in swarm.workers:
                    pool = worker.service.stage.pool
                    await worker.idle()
                    assert pool.reserved == worker.service.kept_bytes
                    assert pool.reserved == (2 * pool.state_bytes(pool.span) or pool.needed(312, pool.span))
            for worker in swarm.workers:
                await worker.idle()
                assert worker.service.stage.pool.reserved == 0

    run_virtual(main())


def test_audits_of_honest_workers_find_equal_rows(model: Path, precision: str) -> None:
    async def main() -> None:
        config = ClientConfig(audit_share=1.0, audit_private=True)
        async with LocalSwarm(model, [(0, 3)] * 3, precision=precision, client_config=config) as swarm:
            seen = Seen()
            async with swarm.client(Trace(seen), random=First()) as client:
                assert [(await ask(client, PROMPT)).cached_tokens for _ in range(2)] == [0, 256]
                await client.auditor.idle()
            assert seen.verdicts == ["equal"] * 2
            assert not seen.banned

    run_virtual(main())
