"""Workers hand rows to each other: a token over n hops takes n + 1 trips, and the tokens stay whatever becomes of an edge."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.answers import OPTIONS, PROMPT, ask, unsplit
from support.clock import run_virtual
from support.slow import STEP, Slow
from support.swarm import LocalSwarm

from swarm.config import ClientConfig
from swarm.trace import Event, Trace
from swarm.wire.messages import Push

LONG = [(11 * index) % 250 for index in range(2000)]
SPANS = [(0, 1), (1, 2), (2, 4)]
ONE_WAY = 0.02  # seconds


@pytest.fixture(scope="module")
def tokens(model: Path) -> list[int]:
    return asyncio.run(unsplit(model))


class Watch:
    """What is said of edges, and a call when rows of some position leave."""

    def __init__(self) -> None:
        self.made: list[Event] = []
        self.failed: list[Event] = []
        self.acts: dict[int, Any] = {}

    def __call__(self, event: Event) -> None:
        if event.name == "session.edge":
            (self.made if event.phase == "complete" else self.failed).append(event)
        if (event.name, event.phase) == ("hop.forward", "started"):
            act = self.acts.pop(event.details["position"], None)
            if act is not None:
                act()


@pytest.mark.parametrize(("direct", "trips"), [(True, 4), (False, 6)])
def test_a_token_takes_one_trip_to_each_hop_and_one_home(
    model: Path, tokens: list[int], direct: bool, trips: int
) -> None:
    async def main() -> None:
        watch = Watch()
        async with LocalSwarm(model, SPANS, client_config=ClientConfig(direct=direct)) as swarm:
            swarm.hub.latency = ONE_WAY
            async with swarm.client(Trace(watch)) as client:
                answer = await ask(client)
        assert answer.token_ids == tokens
        assert len(watch.made) == (2 if direct else 0)
        assert answer.timings.decoding / (OPTIONS.max_tokens - 1) == pytest.approx(trips * ONE_WAY, abs=ONE_WAY / 4)

    run_virtual(main())


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("victim", range(3))
@pytest.mark.parametrize("moment", [0, 128, len(PROMPT), len(PROMPT) + 6])
def test_a_worker_dies_and_another_takes_its_place_in_the_chain(
    model: Path, tokens: list[int], direct: bool, victim: int, moment: int
) -> None:
    async def main() -> None:
        watch = Watch()
        async with LocalSwarm(model, SPANS * 2, client_config=ClientConfig(direct=direct)) as swarm:

            def kill() -> None:
                using = [worker for worker in swarm.workers if len(worker.service._sessions)]
                next(worker for worker in using if worker.span.start == SPANS[victim][0]).kill()

            watch.acts[moment] = kill
            async with swarm.client(Trace(watch)) as client:
                answer = await ask(client)
        assert answer.token_ids == tokens
        assert answer.session.exact  # type: ignore[union-attr]
        assert len(answer.session.recoveries) == 1  # type: ignore[union-attr]

    run_virtual(main())


def test_a_worker_that_cannot_reach_the_next_leaves_that_edge_to_the_client(model: Path, tokens: list[int]) -> None:
    async def main() -> None:
        watch = Watch()
        async with LocalSwarm(model, SPANS) as swarm:
            first, second, third = (worker.peer_id for worker in swarm.workers)
            swarm.hub.cut(first, second)
            swarm.hub.latency = ONE_WAY
            async with swarm.client(Trace(watch)) as client:
                before = await ask(client, PROMPT[::-1])
                answer = await ask(client)
            assert before.timings.first_token > 0.5 > answer.timings.first_token  # it was waited for once
        assert answer.token_ids == tokens
        assert {event.details["next"] for event in watch.made} == {third.short}

    run_virtual(main())


def test_a_short_prompt_waits_for_no_edge(model: Path) -> None:
    async def main() -> None:
        async with LocalSwarm(model, SPANS) as swarm:
            swarm.hub.cut(swarm.workers[0].peer_id, swarm.workers[1].peer_id)
            swarm.hub.latency = ONE_WAY
            async with swarm.client() as client:
                answer = await ask(client, PROMPT[:100])
        assert answer.timings.first_token == pytest.approx(2 * len(SPANS) * ONE_WAY, abs=ONE_WAY / 2)

    run_virtual(main())


@pytest.mark.parametrize("way", ["cut", "lost"])
def test_an_edge_that_breaks_is_left_and_nobody_is_blamed(model: Path, tokens: list[int], way: str) -> None:
    """Cut while it is used, or its rows are taken and never seen again: the client takes them on itself."""

    async def main() -> None:
        watch = Watch()
        async with LocalSwarm(model, SPANS) as swarm:
            first, second = swarm.workers[:2]

            def act() -> None:
                if way == "cut":
                    swarm.hub.cut(first.peer_id, second.peer_id)
                else:
                    second.pushed = lambda channel, push: None

            watch.acts[len(PROMPT) + 3] = act
            async with swarm.client(Trace(watch)) as client:
                answer = await ask(client)
                assert not client._parts.peers.avoided(strictly=True)  # type: ignore[union-attr]
        assert answer.token_ids == tokens
        assert not answer.session.recoveries  # type: ignore[union-attr]
        assert answer.timings.longest_gap < 4
        assert [event.details["next"] for event in watch.failed] == [second.peer_id.short]

    run_virtual(main())


def test_who_tells_the_client_other_rows_than_the_next_worker_is_no_longer_let_hand_on(
    model: Path, tokens: list[int]
) -> None:
    """The next one's receipt shows it: its inputs are not what the client was told."""

    async def main() -> None:
        watch = Watch()
        async with LocalSwarm(model, [*SPANS, SPANS[1]]) as swarm:
            edges = swarm.workers[0].service._edges
            honest = edges.hand_on
            lies: list[int] = []

            def lie(slot: Any, message: Push, outputs: Any) -> bool:
                lies.append(message.position)
                wrong = memoryview(bytes(len(outputs.data)))
                return honest(slot, message, replace(outputs, data=wrong))

            edges.hand_on = lie  # type: ignore[method-assign]
            async with swarm.client(Trace(watch)) as client:
                answer = await ask(client)
        assert lies
        assert answer.token_ids == tokens

    run_virtual(main())


def test_who_pushes_steps_of_the_far_future_is_no_longer_let_hand_on(model: Path, tokens: list[int]) -> None:
    """All later ones are out of order at the next worker, which is replaced for that once, and no more."""

    async def main() -> None:
        async with LocalSwarm(model, [*SPANS, *[SPANS[1]] * 3]) as swarm:
            edges = swarm.workers[0].service._edges
            honest = edges.hand_on

            def hurry(slot: Any, message: Push, outputs: Any) -> bool:
                far = 1 << 40 if message.position > len(PROMPT) + 2 else 0
                return honest(slot, replace(message, step=message.step + far), outputs)

            edges.hand_on = hurry  # type: ignore[method-assign]
            async with swarm.client() as client:
                answer = await ask(client)
        assert answer.token_ids == tokens
        assert len(answer.session.recoveries) <= 1  # type: ignore[union-attr]

    run_virtual(main())


def test_who_does_so_at_the_end_of_an_answer_is_avoided_with_the_next_worker(model: Path) -> None:
    """Rows that have no receipt when a session ends get one then; which of the two lied nobody can say."""

    async def main() -> None:
        events: list[Event] = []
        async with LocalSwarm(model, SPANS) as swarm:
            first, second = swarm.workers[:2]
            honest = first.service._edges.hand_on

            def lie(slot: Any, message: Push, outputs: Any) -> bool:
                wrong = (
                    outputs
                    if message.position < len(PROMPT)
                    else replace(outputs, data=memoryview(bytes(len(outputs.data))))
                )
                return honest(slot, message, wrong)

            first.service._edges.hand_on = lie  # type: ignore[method-assign]
            async with swarm.client(Trace(events.append)) as client:
                await ask(client)
                avoided = client._parts.peers.avoided(strictly=True)  # type: ignore[union-attr]
        assert avoided == {first.peer_id, second.peer_id}
        (told,) = [event for event in events if event.name == "hop.receipt"]
        assert told.details["peer"] == second.peer_id.short

    run_virtual(main())


@pytest.mark.parametrize("slow", range(3))
def test_chunks_that_take_longer_than_an_edge_may_lose_rows_for_break_no_edge(model: Path, slow: int) -> None:
    """Whoever waits for the second chunk while the first is computed before it says so, and is believed."""

    async def main() -> None:
        watch = Watch()
        async with LocalSwarm(model, SPANS) as swarm:
            for index, worker in enumerate(swarm.workers):
                Slow(worker, 0.5 if index == slow else STEP)  # 4 s a chunk, 8 where there are two layers
            async with swarm.client(Trace(watch)) as client:
                answer = await ask(client, LONG[:500])
        assert len(answer.token_ids) == OPTIONS.max_tokens
        assert not watch.failed
        assert not answer.session.recoveries  # type: ignore[union-attr]

    run_virtual(main())


@pytest.mark.parametrize("direct", [True, False])
def test_four_workers_take_a_long_prompt_in_over_two_and_a_half_times_as_fast_as_one(model: Path, direct: bool) -> None:
    async def seconds(spans: list[tuple[int, int]]) -> tuple[float, list[int]]:
        async with LocalSwarm(model, spans, client_config=ClientConfig(direct=direct)) as swarm:
            for worker in swarm.workers:
                Slow(worker)
            async with swarm.client() as client:
                answer = await ask(client, LONG)
        return answer.timings.first_token, answer.token_ids

    async def main() -> None:
        one, expected = await seconds([(0, 4)])
        four, found = await seconds([(layer, layer + 1) for layer in range(4)])
        assert found == expected
        chunks = -(-len(LONG) // 128)
        bound = 4 * chunks / (chunks + 3)  # the first chunk goes through alone
        assert one / four > max(2.5, 0.9 * bound)

    run_virtual(main())
