"""Stalls, holes, lost replies, liars and company: a session goes on exactly, or says why it cannot."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support.clock import run_virtual
from support.models import make_model
from support.swarm import LocalSwarm, LocalWorker

from swarm.checkpoint.manifest import read_manifest
from swarm.client import Client
from swarm.client.generate import Answer, Options
from swarm.config import ClientConfig, WorkerConfig
from swarm.errors import AuditFault, NoChain, Overloaded, UsageFault, WrongModel
from swarm.records import ModelRef, SignedRecord
from swarm.trace import Event, Trace
from swarm.wire.messages import Result

PROMPT = [(7 * index) % 250 for index in range(140)]
OPTIONS = Options(max_tokens=10, ignore_eos=True)
MIDDLE = len(PROMPT) + 4  # a position in mid-answer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"), tokenizer=True)


@pytest.fixture(scope="module")
def expected(model: Path) -> list[int]:
    return asyncio.run(unsplit(model, PROMPT))


async def unsplit(model: Path, prompt: list[int]) -> list[int]:
    async with Client(model, local=True, precision="fp32") as client:
        answer = client.generate(prompt, options=OPTIONS)
        await answer.read()
        return answer.token_ids


async def ask(client: Client) -> Answer:
    answer = client.generate(PROMPT, options=OPTIONS)
    await answer.read()
    return answer


class At:
    """Calls `act(worker)` once, when rows of that position are about to leave for a worker."""

    def __init__(self, swarm: LocalSwarm, position: int, act: Any) -> None:
        self._swarm = swarm
        self._position = position
        self._act = act
        self.victim: LocalWorker | None = None

    def __call__(self, event: Event) -> None:
        if self.victim is not None or (event.name, event.phase) != ("hop.forward", "started"):
            return
        if event.details["position"] == self._position:
            self.victim = self._swarm.worker(event.details["peer"])
            self._act(self.victim)


def test_a_stalled_worker_is_left_within_five_seconds_and_its_late_reply_is_ignored(
    model: Path, expected: list[int]
) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 2), (0, 2), (2, 4), (2, 4)]) as swarm:
            at = At(swarm, MIDDLE, LocalWorker.freeze)
            async with swarm.client(Trace(at)) as client:
                loop = asyncio.get_running_loop()
                answer = client.generate(PROMPT, options=OPTIONS)
                began = loop.time()
                async for token in answer:
                    if token.index == 7:  # well after the stall
                        assert at.victim is not None
                        assert loop.time() - began <= 5.0
                        at.victim.thaw()
            assert answer.token_ids == expected
            (recovery,) = answer.session.recoveries  # type: ignore[union-attr]
            assert recovery.peer_id == at.victim.peer_id
            assert recovery.seconds < 1.0

    run_virtual(main())


def test_a_hole_is_waited_for_named_and_left_behind_when_a_worker_joins(model: Path, expected: list[int]) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 2), (2, 4)]) as swarm:
            holes: list[str] = []
            waiting = asyncio.Event()

            def listen(event: Event) -> None:
                at(event)
                if event.name == "session.wait":
                    holes.append(event.details["missing"])
                    waiting.set()

            at = At(swarm, MIDDLE, LocalWorker.kill)
            async with swarm.client(Trace(listen)) as client:
                asking = asyncio.create_task(ask(client))
                await waiting.wait()
                await asyncio.sleep(20)
                assert at.victim is not None
                await swarm.add(at.victim.span)
                joined = asyncio.get_running_loop().time()
                answer = await asking
                assert asyncio.get_running_loop().time() - joined < 5
            assert answer.token_ids == expected
            assert holes[0] == f"layers {at.victim.span}"

    run_virtual(main())


def test_a_hole_that_stays_is_an_error_that_names_the_layers(model: Path) -> None:
    async def main() -> None:
        config = ClientConfig(deadline_seconds=30)
        async with LocalSwarm(model, [(0, 2), (2, 4)], client_config=config) as swarm:
            at = At(swarm, MIDDLE, LocalWorker.kill)
            async with swarm.client(Trace(at)) as client:
                with pytest.raises(NoChain, match=r"waited 30 s for rows at position \d+: layers ") as hole:
                    await ask(client)
            assert at.victim is not None
            assert hole.value.missing == (at.victim.span,)

    run_virtual(main())


def test_layers_that_nobody_serves_are_named_at_the_start(model: Path) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 1), (3, 4)]) as swarm, swarm.client() as client:
            with pytest.raises(NoChain, match="layers 1-2 of ") as hole:
                await ask(client)
            assert [str(span) for span in hole.value.missing] == ["1-2"]

    run_virtual(main())


def test_two_clients_with_ten_sessions_each_and_a_kill(model: Path) -> None:
    async def main() -> None:
        prompts = [[(13 * index + seed) % 250 for index in range(20 + 9 * seed)] for seed in range(10)]
        wanted = [await unsplit(model, prompt) for prompt in prompts]
        async with LocalSwarm(model, [(0, 2), (0, 2), (2, 4), (2, 4)]) as swarm:
            at = At(swarm, len(prompts[5]) + 3, LocalWorker.kill)
            async with swarm.client(Trace(at)) as one, swarm.client() as two:
                answers = [client.generate(prompt, options=OPTIONS) for client in (one, two) for prompt in prompts]
                await asyncio.gather(*(answer.read() for answer in answers))
            assert at.victim is not None
            assert [answer.token_ids for answer in answers] == wanted + wanted
            await nothing_left(swarm)

    asyncio.run(main())


async def nothing_left(swarm: LocalSwarm) -> None:
    """Every surviving worker's cache is free again."""
    for worker in swarm.workers:
        if worker.alive:
            async with asyncio.timeout(5):
                await worker.service.drained()
            assert worker.service.stage.pool.reserved == 0


def test_a_client_that_vanishes_in_mid_answer_frees_its_caches(model: Path) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 2), (2, 4)]) as swarm, swarm.client() as client:
            answer = client.generate(PROMPT, options=OPTIONS)
            async for token in answer:
                if token.index == 3:
                    break
            assert all(worker.service.load().sessions == 1 for worker in swarm.workers)
            assert client.identity is not None
            swarm.hub.kill(client.identity.peer_id)
            began = asyncio.get_running_loop().time()
            await nothing_left(swarm)
            assert asyncio.get_running_loop().time() - began <= 5
            await answer.aclose()

    run_virtual(main())


def test_a_reply_that_was_lost_is_answered_again_and_computed_once(model: Path, expected: list[int]) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 4)]) as swarm:
            worker = swarm.workers[0]
            handle, steps = worker.service.handle, []
            computed = worker.service.stage.decode

            async def lossy(message: Any, exchange: Any) -> Any:
                reply = await handle(message, exchange)
                if isinstance(reply, Result):
                    steps.append(reply.step)
                    if reply.step == 5 and steps.count(5) == 1:
                        exchange.channel.abort("the test loses this reply")
                return reply

            calls: list[int] = []

            def counted(work: Any) -> Any:
                calls.append(len(work))
                return computed(work)

            worker.service.stage.decode = counted  # type: ignore[method-assign]
            worker.handler = lossy
            async with swarm.client() as client:
                answer = await ask(client)
            assert answer.token_ids == expected
            assert steps.count(5) == 2
            assert len(calls) == OPTIONS.max_tokens - 1  # type: ignore[operator]
            assert answer.session.recoveries == []  # type: ignore[union-attr]

    run_virtual(main())


def corrupt(worker: LocalWorker) -> None:
    """From now on the worker's decode rows are a little wrong."""
    honest = worker.service.stage.decode
    worker.service.stage.decode = lambda work: [rows + 0.5 for rows in honest(work)]  # type: ignore[method-assign]


def test_a_replacement_that_lies_is_found_out_and_a_third_settles_it(model: Path, expected: list[int]) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 4)] * 3) as swarm:

            def act(victim: LocalWorker) -> None:
                others = sorted((w for w in swarm.workers if w is not victim), key=lambda w: w.peer_id)
                corrupt(others[0])
                victim.kill()

            events: list[Event] = []
            at = At(swarm, MIDDLE, act)
            async with swarm.client(Trace(at, events.append)) as client:
                answer = await ask(client)
            assert answer.token_ids == expected
            assert [event for event in events if event.name == "session.audit"]

    run_virtual(main())


def test_two_honest_replacements_convict_the_worker_they_replace(model: Path) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 4)] * 3) as swarm:
            lying = At(swarm, len(PROMPT), corrupt)
            dying = At(swarm, MIDDLE, LocalWorker.kill)
            async with swarm.client(Trace(lying, dying)) as client:
                with pytest.raises(AuditFault, match="computed different rows for layers 0-3"):
                    await ask(client)

    run_virtual(main())


def test_an_audit_that_cannot_be_settled_says_so(model: Path) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 4)] * 2) as swarm:
            lying = At(swarm, len(PROMPT), corrupt)
            dying = At(swarm, MIDDLE, LocalWorker.kill)
            async with swarm.client(Trace(lying, dying)) as client:
                with pytest.raises(AuditFault, match="no third peer confirms"):
                    await ask(client)

    run_virtual(main())


def test_a_replacement_may_be_several_hops(model: Path, expected: list[int]) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 4)]) as swarm:
            at = At(swarm, MIDDLE, LocalWorker.kill)
            async with swarm.client(Trace(at)) as client:
                answer = client.generate(PROMPT, options=OPTIONS)
                async for token in answer:
                    if token.index == 0:
                        for span in ((0, 1), (1, 3), (3, 4)):
                            await swarm.add_span(*span)
            assert answer.token_ids == expected
            (recovery,) = answer.session.recoveries  # type: ignore[union-attr]
            assert len(recovery.replacements) == 3

    run_virtual(main())


def test_a_replacement_that_is_known_is_not_looked_up(model: Path, expected: list[int]) -> None:
    """However long ago it was heard of, up to its expiry: a directory whose nodes just died answers late."""

    async def main() -> None:
        async with LocalSwarm(model, [(0, 4), (0, 4)]) as swarm:
            lookup = swarm.records.lookup

            async def slow_lookup(ref: ModelRef) -> list[SignedRecord]:
                await asyncio.sleep(5)
                return await lookup(ref)

            def act(victim: LocalWorker) -> None:
                swarm.records.lookup = slow_lookup  # type: ignore[method-assign]
                victim.kill()

            async with swarm.client(Trace(At(swarm, MIDDLE, act))) as client:
                answer = client.generate(PROMPT, options=OPTIONS)
                async for token in answer:
                    if token.index == 2:
                        await asyncio.sleep(30)
            assert answer.token_ids == expected
            (recovery,) = answer.session.recoveries  # type: ignore[union-attr]
            assert recovery.seconds < 1

    run_virtual(main())


def test_a_worker_without_room_is_passed_by(model: Path, expected: list[int]) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 4), (0, 4)]) as swarm, swarm.client() as client:
            full = swarm.workers[0].service.stage.pool
            full.reserved = full.budget
            assert (await ask(client)).token_ids == expected

    run_virtual(main())


def test_when_every_worker_is_full_the_request_ends_with_the_numbers(model: Path) -> None:
    async def main() -> None:
        config = ClientConfig(deadline_seconds=10)
        async with LocalSwarm(model, [(0, 4)], client_config=config) as swarm, swarm.client() as client:
            pool = swarm.workers[0].service.stage.pool
            pool.reserved = pool.budget
            with pytest.raises(Overloaded, match=r"waited 10 s .* 0 are free"):
                await ask(client)

    run_virtual(main())


def test_another_model_of_the_same_name_is_named_by_both_digests(
    model: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = make_model(tmp_path_factory.mktemp("other") / model.name, seed=7, tokenizer=True)

    async def main() -> None:
        async with LocalSwarm(other, [(0, 4)], name=model.name) as swarm:
            mine = read_manifest(model).ref(model.name).digest.hex()
            client = swarm.client(model=model)
            async with client:
                with pytest.raises(WrongModel, match=mine) as error:
                    await ask(client)
            assert swarm.model.digest.hex() in str(error.value)

    run_virtual(main())


def test_a_prompt_longer_than_the_context_is_refused_with_the_numbers(model: Path) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 4)]) as swarm, swarm.client() as client:
            with pytest.raises(UsageFault, match="has 5000 tokens; the model's context is 2048"):
                client.generate([1] * 5000)
            with pytest.raises(UsageFault, match="prompt is empty"):
                client.generate([])

    run_virtual(main())


def test_leases_of_idle_hops_are_renewed_while_another_is_missing(model: Path, expected: list[int]) -> None:
    async def main() -> None:
        config = ClientConfig(deadline_seconds=400)
        async with LocalSwarm(
            model, [(0, 2), (2, 4)], client_config=config, worker_config=WorkerConfig(lease_seconds=60)
        ) as swarm:
            at = At(swarm, MIDDLE, LocalWorker.kill)
            async with swarm.client(Trace(at)) as client:
                asking = asyncio.create_task(ask(client))
                await asyncio.sleep(200)
                assert at.victim is not None
                (other,) = (worker for worker in swarm.workers if worker is not at.victim)
                assert other.service.load().sessions == 1
                await swarm.add(at.victim.span)
                answer = await asking
            assert answer.token_ids == expected
            assert len(answer.session.recoveries) == 1  # type: ignore[union-attr]

    run_virtual(main())
