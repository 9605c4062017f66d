"""Replacements are compared with what they replace: who is believed, when that is settled, and what is called exact."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support.answers import OPTIONS, PROMPT, ask
from support.audits import reclass
from support.clock import run_virtual
from support.swarm import LocalSwarm, LocalWorker

from swarm.errors import AuditFault, Overloaded
from swarm.trace import Event, Trace
from swarm.wire.messages import Open

FIRST = len(PROMPT)  # the first decode row
MIDDLE = len(PROMPT) + 4


class At:
    """Calls each of `acts(worker)` once, when rows of its position are about to leave for a worker for the first time."""

    def __init__(self, swarm: LocalSwarm, acts: dict[int, Any]) -> None:
        self._swarm = swarm
        self._acts = dict(acts)

    def __call__(self, event: Event) -> None:
        if (event.name, event.phase) == ("hop.forward", "started"):
            act = self._acts.pop(event.details["position"], None)
            if act is not None:
                act(self._swarm.worker(event.details["peer"]))


def corrupt(worker: LocalWorker, by: float = 0.5) -> None:
    """From now on the worker's decode rows are a little wrong."""
    honest = worker.service.stage.decode
    worker.service.stage.decode = lambda work: [rows + by for rows in honest(work)]  # type: ignore[method-assign]


def others(swarm: LocalSwarm, victim: LocalWorker) -> list[LocalWorker]:
    return sorted((worker for worker in swarm.workers if worker is not victim), key=lambda worker: worker.peer_id)


@pytest.mark.parametrize(("position", "exact"), [(0, True), (FIRST, False), (MIDDLE, False)])
def test_rows_of_another_class_are_not_called_exact_though_a_replay_was_equal(
    model: Path, position: int, exact: bool
) -> None:
    """What is still to come may differ. Nothing came before the first chunk."""

    async def main() -> None:
        async with LocalSwarm(model, [(0, 4)] * 2) as swarm:

            def act(victim: LocalWorker) -> None:
                victim.kill()
                reclass(others(swarm, victim)[0])

            async with swarm.client(Trace(At(swarm, {position: act}))) as client:
                answer = await ask(client)
            assert answer.session.exact is exact  # type: ignore[union-attr]

    run_virtual(main())


def test_a_chain_of_two_classes_is_not_called_exact(model: Path) -> None:
    async def main() -> None:
        events: list[Event] = []
        async with LocalSwarm(model, [(0, 2), (2, 4)]) as swarm, swarm.client(Trace(events.append)) as client:
            reclass(swarm.workers[0])
            assert not (await ask(client)).session.exact  # type: ignore[union-attr]
        told = [event.details["opening"] for event in events if event.name == "session.exactness"]
        assert told == [True]

    run_virtual(main())


def test_a_chain_of_two_classes_is_told_once_though_a_worker_is_replaced_by_its_like(model: Path) -> None:
    async def main() -> None:
        events: list[Event] = []
        async with LocalSwarm(model, [(0, 2), (2, 4), (2, 4)]) as swarm:
            first, killed = swarm.workers[0], list[LocalWorker]()
            reclass(first)

            def kill_second(event: Event) -> None:
                events.append(event)
                asked = (event.name, event.phase) == ("hop.forward", "started") and not killed
                if asked and event.details["position"] == MIDDLE and event.details["peer"] != first.peer_id.short:
                    killed.append(swarm.worker(event.details["peer"]))
                    killed[0].kill()

            async with swarm.client(Trace(kill_second)) as client:
                answer = await ask(client)
            assert answer.session.recoveries  # type: ignore[union-attr]
        told = [event.details["opening"] for event in events if event.name == "session.exactness"]
        assert told == [True]

    run_virtual(main())


def test_of_a_chain_of_one_class_nothing_is_told(model: Path) -> None:
    async def main() -> None:
        events: list[Event] = []
        async with LocalSwarm(model, [(0, 2), (2, 4)]) as swarm, swarm.client(Trace(events.append)) as client:
            assert (await ask(client)).session.exact  # type: ignore[union-attr]
        assert not [event for event in events if event.name == "session.exactness"]

    run_virtual(main())


def test_a_worker_of_another_class_settles_no_contradiction(model: Path) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 4)] * 3) as swarm:

            def act(victim: LocalWorker) -> None:
                liar, stranger = others(swarm, victim)
                corrupt(liar)
                corrupt(stranger, 0.25)
                reclass(stranger)
                victim.kill()

            async with swarm.client(Trace(At(swarm, {MIDDLE: act}))) as client:
                with pytest.raises(AuditFault, match="no third peer confirms"):
                    await ask(client)
                await swarm.freed(1)

    run_virtual(main())


def test_rows_of_another_class_that_a_session_holds_make_nobody_a_liar(model: Path) -> None:
    """Whoever replaces the replacement computes the first worker's rows anew, in another class than that one did."""

    async def main() -> None:
        async with LocalSwarm(model, [(0, 4)] * 5) as swarm:

            def first(victim: LocalWorker) -> None:
                corrupt(victim, 1e-3)  # other bits, as another class has
                for other in others(swarm, victim):
                    reclass(other)

            acts = {0: first, MIDDLE: LocalWorker.kill, MIDDLE + 3: LocalWorker.kill}
            async with swarm.client(Trace(At(swarm, acts))) as client:
                answer = await ask(client)
                assert len(answer.token_ids) == OPTIONS.max_tokens
                assert len(answer.session.recoveries) == 2  # type: ignore[union-attr]
                assert not answer.session.exact  # type: ignore[union-attr]

    run_virtual(main())


def test_a_third_peer_that_was_full_a_moment_ago_settles_a_contradiction(model: Path, expected: list[int]) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 4)] * 3) as swarm:
            refusals = []

            def act(victim: LocalWorker) -> None:
                full, liar = others(swarm, victim)
                corrupt(liar)

                async def refuse_once(message: Any, exchange: Any) -> Any:
                    if isinstance(message, Open) and not refusals:
                        refusals.append(message)
                        raise Overloaded("the test has no room for a moment")
                    return await full.service.handle(message, exchange)

                full.handler = refuse_once
                victim.kill()

            async with swarm.client(Trace(At(swarm, {MIDDLE: act}))) as client:
                answer = await ask(client)
            assert answer.token_ids == expected
            assert refusals
            assert answer.session.exact  # type: ignore[union-attr]

    run_virtual(main())


@pytest.mark.parametrize("second", [(0, 1), (1, 3), (3, 4)])
def test_an_inner_hop_of_a_replacement_is_replaced_in_its_turn(
    model: Path, expected: list[int], second: tuple[int, int]
) -> None:
    """What it was given stands in a history that a replay wrote."""

    async def main() -> None:
        async with LocalSwarm(model, [(0, 4)]) as swarm:
            kill_all = {MIDDLE: LocalWorker.kill}
            async with swarm.client(Trace(At(swarm, kill_all))) as client:
                answer = client.generate(PROMPT, options=OPTIONS)
                async for token in answer:
                    if token.index == 0:
                        for span in ((0, 1), (1, 3), (3, 4)):
                            await swarm.add_span(*span)
                    if token.index in (6, 7, 8):  # the same layers thrice
                        next(w for w in swarm.workers if w.alive and (w.span.start, w.span.stop) == second).kill()
                        await swarm.add_span(*second)
            assert answer.token_ids == expected
            assert len(answer.session.recoveries) == 4  # type: ignore[union-attr]

    run_virtual(main())


def test_a_worker_that_comes_back_under_its_key_is_used_within_five_seconds(model: Path, expected: list[int]) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 2), (2, 4)]) as swarm:
            loop = asyncio.get_running_loop()
            back: list[float] = []

            async def come_back(worker: LocalWorker) -> None:
                await asyncio.sleep(20)  # long enough for the longest pause between two attempts
                await worker.start()
                back.append(loop.time())

            def act(victim: LocalWorker) -> None:
                victim.kill()
                coming.append(asyncio.create_task(come_back(victim)))

            coming: list[asyncio.Task[None]] = []
            lookups: list[Event] = []

            def count(event: Event) -> None:
                if event.name == "client.lookup":
                    lookups.append(event)

            async with swarm.client(Trace(At(swarm, {MIDDLE: act}), count)) as client:
                answer = await ask(client)
                assert answer.token_ids == expected
                assert loop.time() - back[0] <= 5
                before = len(lookups)
                assert (await ask(client)).token_ids == expected
                assert len(lookups) == before  # it is trusted again: nobody looks for another
            await asyncio.gather(*coming)

    run_virtual(main())
