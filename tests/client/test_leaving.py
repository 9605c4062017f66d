"""Callers that leave, at any moment: the workers' caches are free at once, and no task stays behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from support.clock import run_virtual
from support.models import make_model
from support.swarm import LocalSwarm

from swarm.client import Client
from swarm.client.generate import Answer, Options
from swarm.trace import Event, Trace

PROMPT = [(7 * index) % 250 for index in range(200)]
OPTIONS = Options(max_tokens=10, ignore_eos=True)
MIDDLE = len(PROMPT) + 4
PAIRS = [(0, 2), (0, 2), (2, 4), (2, 4)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"), tokenizer=True)


class Leaver:
    """Cancels the task that reads an answer, at the first event that `when` picks."""

    def __init__(self, when: Callable[[Event], bool]) -> None:
        self._when = when
        self.reading: asyncio.Task[str] | None = None
        self.left = asyncio.Event()

    def __call__(self, event: Event) -> None:
        if self.reading is not None and not self.left.is_set() and self._when(event):
            self.left.set()
            self.reading.cancel()

    async def read(self, client: Client) -> None:
        self.reading = asyncio.create_task(client.generate(PROMPT, options=OPTIONS).read())
        with pytest.raises(asyncio.CancelledError):
            await self.reading
        assert self.left.is_set()


def test_who_leaves_while_hops_are_opened_leaves_no_session(model: Path) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 2), (2, 4)]) as swarm, swarm.client() as client:
            open_one, slow = swarm.workers
            await client.generate(PROMPT, options=OPTIONS).read()  # both channels are there
            slow.freeze()
            reading = asyncio.create_task(client.generate(PROMPT, options=OPTIONS).read())
            await asyncio.sleep(0.5)
            assert open_one.service.load().sessions == 1
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            slow.thaw()
            await swarm.freed(1)

    run_virtual(main())


@pytest.mark.parametrize("position", [0, 128, 200])
def test_who_leaves_during_a_replay_leaves_no_session(model: Path, position: int) -> None:
    async def main() -> None:
        async with LocalSwarm(model, PAIRS) as swarm:
            replaying = False

            def watch(event: Event) -> bool:
                nonlocal replaying
                if event.name == "session.failover":
                    replaying = event.phase == "started"
                if (event.name, event.phase) != ("hop.forward", "started"):
                    return False
                if not replaying and event.details["position"] == MIDDLE and all(w.alive for w in swarm.workers):
                    swarm.worker(event.details["peer"]).kill()
                return replaying and event.details["position"] == position

            leaver = Leaver(watch)
            async with swarm.client(Trace(leaver)) as client:
                await leaver.read(client)
                await swarm.freed(1.5)

    run_virtual(main())


def test_who_leaves_while_layers_are_missing_leaves_no_session(model: Path) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 2), (2, 4)]) as swarm:

            def watch(event: Event) -> bool:
                if (event.name, event.phase) == ("hop.forward", "started") and event.details["position"] == MIDDLE:
                    swarm.worker(event.details["peer"]).kill()
                return event.name == "session.wait"

            leaver = Leaver(watch)
            async with swarm.client(Trace(leaver)) as client:
                await leaver.read(client)
                await swarm.freed(1.5)

    run_virtual(main())


def test_an_answer_is_closed_at_any_time(model: Path) -> None:
    async def main() -> None:
        async with LocalSwarm(model, PAIRS) as swarm, swarm.client() as client:
            never_begun = client.generate(PROMPT, options=OPTIONS)
            await never_begun.aclose()
            begun = client.generate(PROMPT, options=OPTIONS)
            async for _ in begun:
                break
            await begun.aclose()
            await begun.aclose()
            read = client.generate(PROMPT, options=OPTIONS)
            await read.read()
            await read.aclose()
            assert (read.finish_reason, begun.finish_reason) == ("length", None)
            await swarm.freed(1)

    run_virtual(main())


@pytest.mark.parametrize("after", [0.0, 0.001, 0.01, 0.2, 3.0])
def test_an_answer_is_closed_while_another_task_reads_it(model: Path, after: float) -> None:
    """In every phase: finding a chain, opening it, the prompt, decoding, waiting for a worker that stalls."""

    async def main() -> None:
        async with LocalSwarm(model, [(0, 2), (2, 4)]) as swarm, swarm.client() as client:
            swarm.hub.latency = 0.02
            answer = client.generate(PROMPT, options=OPTIONS)
            reading = asyncio.create_task(answer.read())
            if after == 3.0:
                asyncio.get_running_loop().call_later(0.2, swarm.workers[1].freeze)
            await asyncio.sleep(after)
            await answer.aclose()
            swarm.workers[1].thaw()
            assert await reading == answer.text
            assert answer.finish_reason is None
            assert reading.cancelling() == 0
            await swarm.freed(1)

    run_virtual(main())


def test_a_reader_that_is_cancelled_as_well_stays_cancelled(model: Path) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 4)]) as swarm, swarm.client() as client:
            swarm.hub.latency = 0.02
            answer = client.generate(PROMPT, options=OPTIONS)
            reading = asyncio.create_task(answer.read())
            await asyncio.sleep(0.1)
            reading.cancel()
            await answer.aclose()
            with pytest.raises(asyncio.CancelledError):
                await reading

    run_virtual(main())


@pytest.mark.parametrize("local", [False, True])
def test_a_client_that_is_left_closes_its_answers(model: Path, local: bool) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 2), (2, 4)]) as swarm:
            answers: list[Answer] = []
            client = Client(model, local=True, precision="fp32") if local else swarm.client()
            async with client:
                for _ in range(3):
                    answers.append(client.generate(PROMPT, options=OPTIONS))
                async for token in answers[0]:
                    if token.index == 3:
                        break
                reading = asyncio.create_task(answers[1].read())
                await asyncio.sleep(0)
            await reading
            for answer in answers:
                await answer.aclose()
            await swarm.freed(1)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtual(main())


def test_a_client_that_is_left_ends_the_wait_for_a_chain(model: Path) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 2)]) as swarm:
            never = asyncio.Event()
            swarm.records.lookup = lambda _: never.wait()  # type: ignore[assignment, method-assign, return-value]
            async with swarm.client() as client:
                reading = asyncio.create_task(client.generate(PROMPT, options=OPTIONS).read())
                await asyncio.sleep(1)
            assert await reading == ""
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtual(main())
