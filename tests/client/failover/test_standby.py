"""With a standby a lost worker is replaced within a round trip; whoever dies first, and whatever it computes, the tokens stay."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support.answers import ask, unsplit
from support.clock import run_virtual
from support.slow import STEP, Slow
from support.swarm import LocalSwarm, LocalWorker

from swarm.client.generate import Answer, Options
from swarm.config import ClientConfig
from swarm.trace import Event, Trace

SPANS = [(0, 1), (1, 3), (3, 4)]
PROMPT = [(5 * index) % 250 for index in range(300)]
OPTIONS = Options(max_tokens=40, ignore_eos=True)
ONE_WAY = 0.02  # seconds
MOMENTS = {"first chunk": 0, "mid-prompt": 128, "first decode": 300, "later": 330}


@pytest.fixture(scope="module")
def tokens(model: Path) -> list[int]:
    return asyncio.run(unsplit(model, PROMPT, OPTIONS))


class Watch:
    """Acts when rows of some position leave, and knows who stands by for whom."""

    def __init__(self, position: int = -1, act: Any = None) -> None:
        self.standbys: dict[str, str] = {}  # by the worker in whose place they would go
        self.failed: list[Event] = []
        self._position, self._act = position, act

    def __call__(self, event: Event) -> None:
        if event.name == "session.standby":
            if event.phase == "complete":
                self.standbys[event.details["peer"]] = event.details["to"]
            else:
                self.failed.append(event)
        if (event.name, event.phase) == ("hop.forward", "started") and event.details["position"] == self._position:
            act, self._act = self._act, None
            if act is not None:
                act()


async def struck(
    model: Path, position: int, strike: Any, *, standby: bool = True, slow: bool = False
) -> tuple[Answer, Watch]:
    """An answer during which `strike(swarm, chain of workers, watch)` is called once."""
    async with LocalSwarm(model, SPANS * 3, client_config=ClientConfig(standby=standby)) as swarm:
        swarm.hub.latency = ONE_WAY
        if slow:
            for worker in swarm.workers:
                Slow(worker)
        answer: Answer

        def act() -> None:
            chain = [swarm.worker(hop.peer_id.short) for hop in answer.session.chain.hops]  # type: ignore[union-attr]
            strike(swarm, chain, watch)

        watch = Watch(position, act)
        async with swarm.client(Trace(watch)) as client:
            answer = client.generate(PROMPT, options=OPTIONS)
            await answer.read()
        return answer, watch


@pytest.mark.parametrize("victim", range(3))
def test_a_worker_with_a_standby_is_replaced_within_a_round_trip(model: Path, tokens: list[int], victim: int) -> None:
    def kill(swarm: LocalSwarm, chain: list[LocalWorker], watch: Watch) -> None:
        chain[victim].kill()

    async def main() -> None:
        answer, watch = await struck(model, 330, kill, slow=True)
        alone, _ = await struck(model, 330, kill, slow=True, standby=False)
        assert answer.token_ids == alone.token_ids == tokens
        (recovery,) = answer.session.recoveries  # type: ignore[union-attr]
        (replayed,) = alone.session.recoveries  # type: ignore[union-attr]
        steps = 2 * STEP * len(range(*SPANS[victim]))  # the rows that were owed, one message, perhaps behind another
        assert recovery.seconds <= 2 * ONE_WAY + steps + 0.01 < replayed.seconds / 4
        assert [peer.short for peer in recovery.replacements] == [watch.standbys[recovery.peer_id.short]]
        peers, rows = answer.session.standby  # type: ignore[union-attr]
        assert len(peers) >= 3
        assert rows >= 3 * len(PROMPT)

    run_virtual(main())


@pytest.mark.parametrize("victim", range(3))
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("which", ["the worker", "both at once", "the standby first"])
def test_whoever_dies(model: Path, tokens: list[int], victim: int, moment: str, which: str) -> None:
    def strike(swarm: LocalSwarm, chain: list[LocalWorker], watch: Watch) -> None:
        standby = watch.standbys.get(chain[victim].peer_id.short)
        if which != "the worker" and standby is not None:
            swarm.worker(standby).kill()
        if which != "the standby first":
            chain[victim].kill()
        else:
            asyncio.get_running_loop().call_later(0.3, chain[victim].kill)

    async def main() -> None:
        answer, _ = await struck(model, MOMENTS[moment], strike)
        assert answer.token_ids == tokens
        assert answer.session.exact  # type: ignore[union-attr]

    run_virtual(main())


def test_a_standby_that_computes_other_rows_is_left_and_told(model: Path, tokens: list[int]) -> None:
    def lie(swarm: LocalSwarm, chain: list[LocalWorker], watch: Watch) -> None:
        standby = swarm.worker(watch.standbys[chain[1].peer_id.short])
        honest = standby.service._batcher.submit

        async def wrongly(cache: Any, position: int, rows: Any, count: int, kind: Any) -> Any:
            return await honest(cache, position, 2 * rows, count, kind)

        standby.service._batcher.submit = wrongly  # type: ignore[method-assign]
        asyncio.get_running_loop().call_later(2.5, chain[1].kill)

    async def main() -> None:
        answer, watch = await struck(model, 302, lie)
        assert answer.token_ids == tokens
        assert watch.failed[0].details["reason"] == "it computes other rows"

    run_virtual(main())


def test_where_nobody_can_stand_by_an_answer_goes_on(model: Path, tokens: list[int]) -> None:
    async def main() -> None:
        watch = Watch()
        async with LocalSwarm(model, SPANS, client_config=ClientConfig(standby=True)) as swarm:
            async with swarm.client(Trace(watch)) as client:
                answer = await ask(client, PROMPT, OPTIONS)
                assert answer.token_ids == tokens
                assert answer.session.standby == ((), 0)  # type: ignore[union-attr]
            assert len(watch.failed) >= len(SPANS)
            for worker in swarm.workers:
                await worker.idle()

    run_virtual(main())


def test_a_standby_that_dies_is_followed_by_another(model: Path, tokens: list[int]) -> None:
    def kill(swarm: LocalSwarm, chain: list[LocalWorker], watch: Watch) -> None:
        swarm.worker(watch.standbys[chain[0].peer_id.short]).kill()

    async def main() -> None:
        answer, _ = await struck(model, 305, kill, slow=True)
        assert answer.token_ids == tokens
        assert not answer.session.recoveries  # type: ignore[union-attr]
        assert len(answer.session.standby[0]) == 4  # type: ignore[union-attr]

    run_virtual(main())
