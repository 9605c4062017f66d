"""A worker that becomes slow is left while it still works, with the very same tokens; whatever is no such worker is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from support.clock import run_virtual
from support.models import make_model
from support.swarm import LocalSwarm, LocalWorker

from swarm.client import Client
from swarm.client.generate import Answer, Options
from swarm.sampling import Sampling
from swarm.trace import Event, Trace
from swarm.wire.messages import Forward
from swarm.wire.rows import Rows

PROMPT = [(7 * index) % 250 for index in range(140)]
LONG = [(7 * index) % 250 for index in range(1400)]
TOKENS = 30
OPTIONS = Options(max_tokens=TOKENS, ignore_eos=True)
FIRST, MIDDLE = len(PROMPT), len(PROMPT) + 10
SPANS = [(0, 1), (1, 3), (3, 4)]
STEP = 0.02  # seconds of a decode step; a tile of a chunk costs two


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(
        tmp_path_factory.mktemp("model"), tokenizer=True, tie_word_embeddings=False, max_position_embeddings=2048
    )


SAMPLINGS = {"fp32": Sampling(), "bf16": Sampling(temperature=1.0, top_k=50, seed=11)}


@pytest.fixture(scope="module")
def matrix(model: Path) -> dict[str, list[int]]:
    """Of PROMPT, by precision, each with a sampling of its own."""

    async def main(precision: str) -> list[int]:
        async with Client(model, local=True, precision=precision) as client:
            return (await ask(client, sampling=SAMPLINGS[precision])).token_ids

    return {precision: asyncio.run(main(precision)) for precision in SAMPLINGS}


@pytest.fixture(scope="module")
def expected(model: Path) -> dict[int, list[int]]:
    """By the length of the prompt."""

    async def main() -> dict[int, list[int]]:
        async with Client(model, local=True, precision="fp32") as client:
            return {len(prompt): (await ask(client, prompt)).token_ids for prompt in (PROMPT, LONG)}

    return asyncio.run(main())


async def ask(client: Client, prompt: list[int] = PROMPT, sampling: Sampling = OPTIONS.sampling) -> Answer:
    answer = client.generate(prompt, options=replace(OPTIONS, sampling=sampling))
    await answer.read()
    return answer


class Clocked:
    """A worker that computes in virtual time, one batch after the other, as long as `seconds(rows)` says."""

    def __init__(self, worker: LocalWorker, factor: Callable[[], float] = lambda: 1.0) -> None:
        self.worker = worker
        self.factor = factor
        self.jitter = lambda: 0.0  # of the network to it, seconds
        self.slow_steps = 0  # asked of it since it became slow
        self._one = asyncio.Lock()
        self._submit = worker.service._batcher.submit
        worker.service._batcher.submit = self._slowly  # type: ignore[method-assign]

    def slow_down(self, times: float = 10.0) -> None:
        self.factor = lambda: times

    async def _slowly(self, cache: Any, position: int, rows: Any, count: int, kind: Rows) -> Any:
        self.slow_steps += self.factor() >= 10
        tiles = -(-count // 16)
        async with self._one:
            await asyncio.sleep(self.factor() * STEP * (2 * tiles if kind is Rows.CHUNK else tiles))
        await asyncio.sleep(self.jitter())
        return await self._submit(cache, position, rows, count, kind)


class Watcher:
    """Calls `act(the worker asked)` once, when rows of that position leave, or have come; counts what is said of moves."""

    def __init__(
        self,
        swarm: LocalSwarm,
        position: int = -1,
        act: Callable[[Clocked], None] = Clocked.slow_down,
        phase: str = "started",
    ) -> None:
        self._phase = phase
        self.clocked = {worker.peer_id.short: Clocked(worker) for worker in swarm.workers}
        self.victim: Clocked | None = None
        self.hop = 0  # which of the session's hops is struck
        self.events: list[Event] = []
        self.slow_steps_before: int | None = None  # the move began
        self._swarm = swarm
        self._position = position
        self._act = act
        self._hops: list[str] = []

    def __call__(self, event: Event) -> None:
        if event.name == "session.move":
            self.events.append(event)
            if event.phase == "started" and self.slow_steps_before is None and self.victim is not None:
                self.slow_steps_before = self.victim.slow_steps
        if (event.name, event.phase) != ("hop.forward", self._phase) or self.victim is not None:
            return
        if event.details["position"] == self._position:
            self._hops.append(event.details["peer"])
            if len(self._hops) == self.hop + 1:
                self.victim = self.clocked[event.details["peer"]]
                self._act(self.victim)

    def of(self, phase: str) -> list[Event]:
        return [event for event in self.events if event.phase == phase]


def pairs() -> list[tuple[int, int]]:
    return [span for span in SPANS for _ in range(2)]


@pytest.mark.parametrize("hop", range(3))
@pytest.mark.parametrize("position", [FIRST, MIDDLE])
@pytest.mark.parametrize("precision", SAMPLINGS)
def test_a_worker_ten_times_slower_is_left_within_three_steps(
    model: Path, matrix: dict[str, list[int]], hop: int, position: int, precision: str
) -> None:
    async def main() -> None:
        async with LocalSwarm(model, pairs(), precision=precision) as swarm:
            watcher = Watcher(swarm, position)
            watcher.hop = hop
            async with swarm.client(Trace(watcher)) as client:
                answer = await ask(client, sampling=SAMPLINGS[precision])
                peers = client._parts.peers
                assert peers is not None
                assert watcher.victim is not None
                assert peers.avoided(strictly=True) == {watcher.victim.worker.peer_id}
                await asyncio.sleep(swarm.client_config.suspicion_seconds)
                assert not peers.avoided(strictly=True)
                await swarm.freed(1)
            assert answer.token_ids == matrix[precision]
            (recovery,) = answer.session.recoveries  # type: ignore[union-attr]
            assert recovery.moved
            assert recovery.peer_id == watcher.victim.worker.peer_id
            assert recovery.cause.startswith("slow: its steps take 0.")
            assert watcher.slow_steps_before is not None
            assert watcher.slow_steps_before <= 3
            assert answer.session.exact  # type: ignore[union-attr]

    run_virtual(main())


@pytest.mark.parametrize("hop", range(3))
def test_a_worker_that_becomes_slow_in_a_long_prompt_is_left(
    model: Path, expected: dict[int, list[int]], hop: int
) -> None:
    async def main() -> None:
        async with LocalSwarm(model, pairs()) as swarm:
            watcher = Watcher(swarm, 3 * 128, phase="complete")
            watcher.hop = hop
            async with swarm.client(Trace(watcher)) as client:
                answer = await ask(client, LONG)
            assert answer.token_ids == expected[len(LONG)]
            (recovery,) = answer.session.recoveries  # type: ignore[union-attr]
            assert recovery.moved
            assert recovery.cause.startswith("slow: its chunks take")
            assert recovery.position <= 10 * 128
            assert watcher.slow_steps_before in range(3, 7)  # three were seen; as many were asked ahead

    run_virtual(main())


def test_with_nobody_else_a_session_goes_on_as_it_is_and_seldom_looks(
    model: Path, expected: dict[int, list[int]]
) -> None:
    async def main() -> None:
        async with LocalSwarm(model, SPANS) as swarm:
            watcher = Watcher(swarm, FIRST + 4, lambda victim: victim.slow_down(100))
            async with swarm.client(Trace(watcher)) as client:
                answer = await ask(client)
                assert not client._parts.peers.avoided(strictly=True)  # type: ignore[union-attr]
            assert answer.token_ids == expected[len(PROMPT)]
            assert answer.session.recoveries == []  # type: ignore[union-attr]
            assert 1 <= len(watcher.of("failed")) <= 3  # in 50 s
            assert "is served by nobody that can be used" in watcher.of("failed")[0].details["reason"]

    run_virtual(main())


def test_a_chain_by_hand_is_kept(model: Path, expected: dict[int, list[int]]) -> None:
    async def main() -> None:
        async with LocalSwarm(model, pairs()) as swarm:
            watcher = Watcher(swarm, MIDDLE)
            chain = [worker.peer_id for worker in swarm.workers[::2]]
            async with swarm.client(Trace(watcher), chain=chain) as client:
                assert (await ask(client)).token_ids == expected[len(PROMPT)]
            assert watcher.events == []

    run_virtual(main())


def test_a_replacement_that_is_lost_leaves_the_slow_worker_in_its_place(
    model: Path, expected: dict[int, list[int]]
) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 4)] * 2) as swarm:

            def act(victim: Clocked) -> None:
                victim.slow_down()
                other = next(worker for worker in swarm.workers if worker is not victim.worker)

                async def die(message: Any, exchange: Any) -> Any:
                    if isinstance(message, Forward) and message.position:
                        other.kill()
                    return await other.service.handle(message, exchange)

                other.handler = die

            watcher = Watcher(swarm, MIDDLE, act)
            async with swarm.client(Trace(watcher)) as client:
                answer = await ask(client)
                await swarm.freed(1)
            assert answer.token_ids == expected[len(PROMPT)]
            assert answer.session.recoveries == []  # type: ignore[union-attr]
            assert [event.phase for event in watcher.events] == ["started", "failed"]

    run_virtual(main())


@pytest.mark.parametrize("when", ["as the move begins", "as it is level"])
def test_the_slow_worker_dies_during_the_move(model: Path, expected: dict[int, list[int]], when: str) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 4)] * 2) as swarm:
            watcher = Watcher(swarm, MIDDLE)

            def kill(event: Event) -> None:
                victim = watcher.victim
                if victim is None or not victim.worker.alive:
                    return
                other = event.details.get("peer") != victim.worker.peer_id.short
                level = event.name == "hop.forward" and other and event.phase == "complete"
                begins = event.name == "session.move" and event.phase == "started"
                if (begins and when == "as the move begins") or (level and when == "as it is level"):
                    victim.worker.kill()

            async with swarm.client(Trace(watcher, kill)) as client:
                answer = await ask(client)
                await swarm.freed(1)
            assert answer.token_ids == expected[len(PROMPT)]
            (recovery,) = answer.session.recoveries  # type: ignore[union-attr]
            assert recovery.peer_id == watcher.victim.worker.peer_id  # type: ignore[union-attr]

    run_virtual(main())


def test_another_hop_dies_during_the_move(model: Path, expected: dict[int, list[int]]) -> None:
    async def main() -> None:
        async with LocalSwarm(model, pairs()) as swarm:
            watcher = Watcher(swarm, MIDDLE)
            watcher.hop = 1

            def kill(event: Event) -> None:
                if event.name == "session.move" and event.phase == "started":
                    last = next(w for w in swarm.workers if w.span.start == 3 and w.service.load().sessions)
                    last.kill()

            async with swarm.client(Trace(watcher, kill)) as client:
                answer = await ask(client)
                await swarm.freed(1)
            assert answer.token_ids == expected[len(PROMPT)]
            assert sorted(recovery.moved for recovery in answer.session.recoveries) == [False, True]  # type: ignore[union-attr]

    run_virtual(main())


def test_a_replacement_that_computes_other_rows_is_not_believed(model: Path, expected: dict[int, list[int]]) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 4)] * 2) as swarm:

            def act(victim: Clocked) -> None:
                victim.slow_down()
                liar = next(worker for worker in swarm.workers if worker is not victim.worker)
                honest = liar.service.stage.decode
                liar.service.stage.decode = lambda work: [rows + 0.5 for rows in honest(work)]  # type: ignore[method-assign]

            watcher = Watcher(swarm, MIDDLE, act)
            async with swarm.client(Trace(watcher)) as client:
                answer = await ask(client)
                await swarm.freed(1)
            assert answer.token_ids == expected[len(PROMPT)]
            assert answer.session.recoveries == []  # type: ignore[union-attr]
            assert watcher.of("failed")[0].details["reason"] == "its replacement computes other rows"

    run_virtual(main())


def test_a_worker_of_another_class_is_no_replacement(model: Path, expected: dict[int, list[int]]) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 4)] * 2) as swarm:

            def act(victim: Clocked) -> None:
                victim.slow_down()
                other = next(worker for worker in swarm.workers if worker is not victim.worker)
                other.service.stage.numerics = "fp32/other"
                other.announce(numerics="fp32/other")

            watcher = Watcher(swarm, MIDDLE, act)
            async with swarm.client(Trace(watcher)) as client:
                answer = await ask(client)
                await swarm.freed(1)
            assert answer.token_ids == expected[len(PROMPT)]
            assert answer.session.exact  # type: ignore[union-attr]
            assert watcher.of("failed")[0].details["reason"] == "nobody else computes the very same rows"

    run_virtual(main())


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_who_leaves_during_a_move_leaves_no_session(model: Path, after: int) -> None:
    """At the first, second ... sign of a replay."""

    async def main() -> None:
        async with LocalSwarm(model, [(0, 4)] * 2) as swarm:
            watcher = Watcher(swarm, MIDDLE)
            signs = 0

            def leave(event: Event) -> None:
                nonlocal signs
                if watcher.events and event.name in ("session.move", "hop.forward") and not reading.done():
                    signs += 1
                    if signs == after + 1:
                        reading.cancel()

            async with swarm.client(Trace(watcher, leave)) as client:
                reading = asyncio.create_task(ask(client))
                with pytest.raises(asyncio.CancelledError):
                    await reading
                await swarm.freed(2)
            names = {task.get_name() for task in asyncio.all_tasks()}
            assert names.isdisjoint({"move", "renewals", "closing"})

    run_virtual(main())


async def nobody_moves(swarm: LocalSwarm, watcher: Watcher, sessions: int, expected: list[int]) -> None:
    async with swarm.client(Trace(watcher)) as client:
        answers = await asyncio.gather(*(ask(client) for _ in range(sessions)))
        assert not client._parts.peers.avoided(strictly=True)  # type: ignore[union-attr]
    assert all(answer.token_ids == expected for answer in answers)
    assert not any(answer.session.recoveries for answer in answers)  # type: ignore[union-attr]
    assert watcher.events == []


class Batched:
    """Computes for one worker's own batcher, in virtual time: a call for decode rows takes two steps, a chunk sixteen."""

    def __init__(self, worker: LocalWorker) -> None:
        self.factor = 1.0
        worker.service._batcher._compute = self
        worker.announce(tokens_per_second=1 / STEP)

    async def run(self, function: Callable[[], Any]) -> Any:
        steps = 16 if "_chunk" in function.__qualname__ else 2
        await asyncio.sleep(self.factor * steps * STEP)
        return function()


async def many(clients: Sequence[Client], sessions: int, pause: float) -> list[Answer]:
    """One after the other begins, in turn at each client, so that prompts slip between the others' rows."""

    async def one(number: int) -> Answer:
        await asyncio.sleep(number * pause)
        return await ask(clients[number % len(clients)])

    return await asyncio.gather(*map(one, range(sessions)))


@pytest.mark.parametrize("clients", [1, 2])
@pytest.mark.parametrize("pause", [0.0, 0.3, 0.7])
def test_sixteen_sessions_at_one_worker_stay_where_they_are(
    model: Path, expected: dict[int, list[int]], clients: int, pause: float
) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 4)] * 2) as swarm, AsyncExitStack() as stack:
            for worker in swarm.workers:
                Batched(worker)
            events: list[Event] = []
            trace = Trace(events.append)
            asking = [await stack.enter_async_context(swarm.client(trace)) for _ in range(clients)]
            answers = await many(asking, 16, pause)
            assert all(answer.token_ids == expected[len(PROMPT)] for answer in answers)
            assert {event.name for event in events}.isdisjoint({"session.move", "session.failover", "peers.suspect"})

    run_virtual(main())


def test_a_slow_worker_that_many_sessions_share_is_left_by_all(model: Path, expected: dict[int, list[int]]) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 4)] * 2) as swarm:
            batched = {worker.peer_id: Batched(worker) for worker in swarm.workers}
            events: list[Event] = []

            def slow_down(event: Event) -> None:
                events.append(event)
                if event.name == "hop.forward" and event.details["position"] == MIDDLE and not slowed:
                    worker = swarm.worker(event.details["peer"])
                    slowed.append(worker.peer_id)
                    batched[worker.peer_id].factor = 10.0

            slowed: list[bytes] = []
            async with swarm.client(Trace(slow_down)) as client:
                answers = await many([client], 8, 0.0)
            assert all(answer.token_ids == expected[len(PROMPT)] for answer in answers)
            for answer in answers:
                (recovery,) = answer.session.recoveries  # type: ignore[union-attr]
                assert recovery.moved
                assert recovery.peer_id == slowed[0]

    run_virtual(main())


@pytest.mark.parametrize("seed", range(3))
def test_a_noisy_machine_is_not_left(model: Path, expected: dict[int, list[int]], seed: int) -> None:
    """Steps take twice or three times as long, for a while, now and then, and one in fifty fifty times."""

    async def main() -> None:
        dice = Random(seed)
        async with LocalSwarm(model, pairs()) as swarm:
            watcher = Watcher(swarm)
            for clocked in watcher.clocked.values():
                clocked.factor = lambda: 50.0 if dice.random() < 0.02 else dice.uniform(1.0, 3.5)
            await nobody_moves(swarm, watcher, 2, expected[len(PROMPT)])

    run_virtual(main())


@pytest.mark.parametrize("latency", [0.1, 0.5])
def test_a_far_and_narrow_network_is_not_left(model: Path, expected: dict[int, list[int]], latency: float) -> None:
    async def main() -> None:
        dice = Random(1)
        async with LocalSwarm(model, pairs()) as swarm:
            swarm.hub.latency, swarm.hub.rate = latency, 125e3
            watcher = Watcher(swarm)
            for clocked in watcher.clocked.values():
                clocked.jitter = lambda: dice.uniform(0.0, 2 * latency)
            await nobody_moves(swarm, watcher, 2, expected[len(PROMPT)])

    run_virtual(main())


def test_a_client_that_does_not_run_for_a_moment_blames_nobody(model: Path, expected: dict[int, list[int]]) -> None:
    async def main() -> None:
        async with LocalSwarm(model, pairs()) as swarm:
            watcher = Watcher(swarm)
            loop = asyncio.get_running_loop()

            def stop(event: Event) -> None:
                if event.name == "hop.forward" and event.phase == "started" and event.details["position"] > FIRST + 5:
                    loop.call_soon(loop.advance, 0.4)  # type: ignore[attr-defined]

            async with swarm.client(Trace(watcher, stop)) as client:
                answer = await ask(client)
            assert answer.token_ids == expected[len(PROMPT)]
            assert watcher.events == []

    run_virtual(main())
