"""Prompts that share a beginning with an earlier one: fewer rows are sent, and every bit is the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from support.clock import run_virtual
from support.swarm import LocalSwarm, LocalWorker

from swarm.client import Client
from swarm.client.generate import Answer, Options
from swarm.client.prefixes.cache import LEAST_ROWS
from swarm.client.prefixes.prefix import shared
from swarm.config import ClientConfig, WorkerConfig
from swarm.trace import Event, Trace

SPANS = [(0, 2), (2, 4), (0, 2), (2, 4)]
OPTIONS = Options(max_tokens=6, ignore_eos=True)
PROMPT = [(7 * index) % 250 for index in range(300)]
ROW_BYTES = 2 * 2 * 2 * 16 * 4  # of one row in a cache: keys and values, two layers, two heads of 16, fp32


@pytest.fixture(scope="module")
def unsplit(model: Path) -> Callable[..., list[int]]:
    """What the unsplit model answers."""

    @cache
    def answered(prompt: tuple[int, ...], precision: str, numerics: str) -> list[int]:
        async def main() -> list[int]:
            async with Client(model, local=True, precision=precision, numerics=numerics) as client:
                answer = client.generate(prompt, options=OPTIONS)
                await answer.read()
                return answer.token_ids

        with ThreadPoolExecutor(1) as thread:  # the test's own loop runs in this one
            return thread.submit(lambda: asyncio.run(main())).result()

    return lambda prompt, precision="fp32", numerics="auto": answered(tuple(prompt), precision, numerics)


class Seen:
    """Positions of rows that were sent, and other events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def rows(self) -> list[int]:
        """Rows that were sent, call by call."""
        return [e.details["rows"] for e in self.events if (e.name, e.phase) == ("hop.forward", "complete")]

    def named(self, name: str, phase: str) -> int:
        return sum((event.name, event.phase) == (name, phase) for event in self.events)


def play(
    model: Path,
    act: Callable[[LocalSwarm], Coroutine[Any, Any, None]],
    spans: Sequence[tuple[int, int]] = SPANS,
    **options: Any,
) -> None:
    async def main() -> None:
        async with LocalSwarm(model, spans, **options) as swarm:
            await act(swarm)
            for worker in swarm.workers:
                if worker.alive:
                    await worker.idle()
                    assert worker.service.stage.pool.reserved == 0

    run_virtual(main())


async def ask(client: Client, prompt: Sequence[int], **options: Any) -> Answer:
    answer = client.generate(prompt, options=OPTIONS, **options)
    await answer.read()
    return answer


async def ask_keeping_rows(client: Client, prompt: Sequence[int], **options: Any) -> tuple[Answer, list[bytes]]:
    """The answer, and all rows that crossed each boundary of the chain."""
    answer = client.generate(prompt, options=OPTIONS, **options)
    rows: list[bytes] = []
    async for token in answer:
        if token.index == OPTIONS.max_tokens - 1:  # type: ignore[operator]
            await answer.session._settle()  # type: ignore[union-attr]
            stem = answer.session.stem  # type: ignore[union-attr]
            boundaries = [*(link.inputs for link in stem.links), stem.outputs]
            rows = [history.bytes_at(0, history.length) for history in boundaries]
    return answer, rows


@pytest.mark.parametrize(
    ("numerics", "precision", "alike"),
    [("portable", "fp32", alike) for alike in (0, 63, 64, 127, 128, 129, 300)]
    + [("portable", "bf16", 255), ("portable", "int4+activations-int16+cache-int8", 201)]
    + [("native", precision, alike) for precision in ("fp32", "bf16") for alike in (100, 127, 129, 256, 300)],
)
def test_a_hit_and_a_miss_give_equal_bits(model: Path, unsplit: Any, numerics: str, precision: str, alike: int) -> None:
    prompt = PROMPT[:alike] + [9] * (330 - alike)
    reused = alike // 128 * 128 if numerics == "native" else alike if alike >= LEAST_ROWS else 0

    async def act(swarm: LocalSwarm) -> None:
        async with swarm.client() as client:
            await ask(client, PROMPT)
            hit, hit_rows = await ask_keeping_rows(client, prompt)
            miss, miss_rows = await ask_keeping_rows(client, prompt, reuse=False)
            assert hit.cached_tokens == reused
            assert miss.cached_tokens == 0
            assert hit.token_ids == miss.token_ids == unsplit(prompt, precision, numerics)
            assert hit_rows == miss_rows
            assert [len(rows) for rows in hit_rows] == [335 * 64 * (4 if precision == "fp32" else 2)] * 3

    play(model, act, precision=precision, numerics=numerics)


@pytest.mark.parametrize("length", [50, 128, 257])
def test_the_same_prompt_again(model: Path, unsplit: Any, length: int) -> None:
    """At most all of it but the last row, which has to come out of the chain."""

    async def act(swarm: LocalSwarm) -> None:
        seen = Seen()
        async with swarm.client(Trace(seen)) as client:
            for turn in range(3):
                seen.events.clear()
                answer = await ask(client, PROMPT[:length])
                assert answer.cached_tokens == (length - 1 if turn and length > LEAST_ROWS else 0)
                assert sum(seen.rows()) == 2 * (length - answer.cached_tokens + OPTIONS.max_tokens - 1)  # type: ignore[operator]
                assert answer.token_ids == unsplit(PROMPT[:length])

    play(model, act)


@pytest.mark.parametrize(("numerics", "reused"), [("native", (0, 256)), ("portable", (269, 271))])
def test_decoded_rows(model: Path, unsplit: Any, numerics: str, reused: tuple[int, int]) -> None:
    """In native numerics they have other bits than a chunk's, and are computed anew."""

    async def act(swarm: LocalSwarm) -> None:
        async with swarm.client() as client:
            first = client.generate(PROMPT[:120], options=replace(OPTIONS, max_tokens=150))
            await first.read()
            longer = [*PROMPT[:120], *first.token_ids, 5]
            second = await ask(client, longer)
            assert second.token_ids == unsplit(longer, numerics=numerics)
            assert (second.cached_tokens, (await ask(client, [*longer, 6])).cached_tokens) == reused

    play(model, act, numerics=numerics)


def test_a_conversation_keeps_its_last_turn_alone(model: Path, unsplit: Any) -> None:
    async def act(swarm: LocalSwarm) -> None:
        async with swarm.client() as client:
            prompt = list(PROMPT)
            cached = []
            for _ in range(4):
                answer = await ask(client, prompt)
                assert answer.token_ids == unsplit(prompt)
                cached.append(answer.cached_tokens)
                prompt += [*answer.token_ids, *PROMPT[:100]]
                assert len(client._parts.kept) == 1  # type: ignore[arg-type]
            assert cached == [0, 305, 411, 517]  # the last token's row is not computed before it is asked for

    play(model, act)


def test_a_parent_may_still_be_under_way(model: Path, unsplit: Any) -> None:
    async def act(swarm: LocalSwarm) -> None:
        async with swarm.client() as client:
            first = client.generate(PROMPT, options=OPTIONS)
            tokens = [(await anext(first)).id]
            second = client.generate([*PROMPT[:256], 3, 4], options=OPTIONS)
            await asyncio.gather(second.read(), first.read())
            assert second.cached_tokens == 256
            assert second.token_ids == unsplit([*PROMPT[:256], 3, 4])
            assert first.token_ids == unsplit(PROMPT)
            assert tokens == first.token_ids[:1]

    play(model, act)


def test_two_owners_never_share(model: Path) -> None:
    async def act(swarm: LocalSwarm) -> None:
        async with swarm.client() as client:
            await ask(client, PROMPT, owner="one")
            assert (await ask(client, PROMPT, owner="other")).cached_tokens == 0
            assert (await ask(client, PROMPT)).cached_tokens == 0
            assert (await ask(client, PROMPT, owner="one")).cached_tokens == 299
        async with swarm.client() as stranger:
            assert (await ask(stranger, PROMPT, owner="one")).cached_tokens == 0

    play(model, act)


@pytest.mark.parametrize("alike", [0, 1, 2, 3, 5, 8, 9, 10])
def test_how_much_two_prompts_share(alike: int) -> None:
    one = tuple(range(10))
    other = (*range(alike), *range(50, 60 - alike))
    assert shared(one, other) == shared(other, one) == alike
    assert shared(one, one[:alike]) == shared(one, (*one[:alike], 7, 7) if alike < 7 else other) == alike
    assert shared((), one) == 0


def test_reuse_may_be_off(model: Path) -> None:
    async def act(swarm: LocalSwarm) -> None:
        async with swarm.client() as client:
            for _ in range(2):
                assert (await ask(client, PROMPT)).cached_tokens == 0
            await swarm.freed(1)
            assert all(not worker.service.stage.pool.reserved for worker in swarm.workers)

    play(model, act, client_config=ClientConfig(max_kept=0))


def test_a_killed_parent_costs_nothing_but_its_rows(model: Path, unsplit: Any) -> None:
    async def act(swarm: LocalSwarm) -> None:
        seen = Seen()
        async with swarm.client(Trace(seen)) as client:
            first = await ask(client, PROMPT)
            hop = first.session.chain.hops[1]  # type: ignore[union-attr]
            swarm.worker(hop.peer_id.short).kill()
            again = await ask(client, PROMPT)
            assert again.cached_tokens == 0
            assert again.token_ids == unsplit(PROMPT)
            assert seen.named("session.branch", "failed") == 1
            assert (await ask(client, PROMPT)).cached_tokens == 299

    play(model, act)


@pytest.mark.parametrize("position", [299, 300, 303])
@pytest.mark.parametrize("hop", [0, 1])
def test_a_failover_in_a_session_that_began_with_another_s_rows(
    model: Path, unsplit: Any, position: int, hop: int
) -> None:
    async def act(swarm: LocalSwarm) -> None:
        victims: list[LocalWorker] = []
        branched = False

        def listen(event: Event) -> None:
            nonlocal branched
            branched = branched or (event.name, event.phase) == ("session.branch", "complete")
            if event.name == "hop.forward" and event.phase == "started" and event.details["position"] == position:
                worker = swarm.worker(event.details["peer"])
                if branched and not victims and worker.span.start == 2 * hop:
                    victims.append(worker)
                    worker.kill()

        async with swarm.client(Trace(listen)) as client:
            await ask(client, PROMPT)
            answer = await ask(client, PROMPT)
            assert answer.cached_tokens == 299
            assert len(victims) == len(answer.session.recoveries) == 1  # type: ignore[union-attr]
            assert answer.session.exact  # type: ignore[union-attr]
            assert answer.token_ids == unsplit(PROMPT)
            third = await ask(client, [*PROMPT, 1])
            assert third.token_ids == unsplit([*PROMPT, 1])
            assert third.cached_tokens == 300  # from the session that was replayed

    play(model, act)


def test_the_least_recently_used_goes_first(model: Path) -> None:
    prompts = [[start + index % 100 for index in range(140)] for start in range(3)]

    async def act(swarm: LocalSwarm) -> None:
        async with swarm.client() as client:
            await ask(client, prompts[0])
            await ask(client, prompts[1])
            assert (await ask(client, prompts[0])).cached_tokens == 139
            await ask(client, prompts[2])
            assert (await ask(client, prompts[0])).cached_tokens == 139
            assert (await ask(client, prompts[1])).cached_tokens == 0

    play(model, act, client_config=ClientConfig(max_kept=2))


def test_so_many_bytes_are_kept(model: Path) -> None:
    async def act(swarm: LocalSwarm) -> None:
        async with swarm.client() as client:
            for start in range(3):
                await ask(client, [start + index % 100 for index in range(140)])
            kept = client._parts.kept
            assert kept is not None
            assert len(kept) == 2
            assert kept.size == 2 * 3 * 145 * 64 * 4

    play(model, act, client_config=ClientConfig(max_kept_bytes=2 * 3 * 145 * 64 * 4))


def test_kept_sessions_go_before_anyone_hears_overloaded(model: Path, unsplit: Any) -> None:
    """Room for one session of this length beside a kept one's whole chunks."""

    async def act(swarm: LocalSwarm) -> None:
        seen = Seen()
        async with swarm.client(Trace(seen)) as client, swarm.client(Trace(seen)) as other:
            prompts = [[start + index % 100 for index in range(300)] for start in range(4)]
            for prompt in prompts:
                assert (await ask(client, prompt)).token_ids == unsplit(prompt)
            assert (await ask(other, PROMPT)).token_ids == unsplit(PROMPT)
            assert not any("Overloaded" in str(event) or event.name == "session.wait" for event in seen.events)
            assert seen.named("session.failover", "started") == 0

    play(model, act, [(0, 2), (2, 4)], cache_bytes=900 * ROW_BYTES)


def test_kept_sessions_are_renewed_and_then_given_up(model: Path) -> None:
    async def act(swarm: LocalSwarm) -> None:
        async with swarm.client() as client:
            await ask(client, PROMPT)
            await asyncio.sleep(150)
            assert (await ask(client, PROMPT)).cached_tokens == 299
            await asyncio.sleep(230)
            assert len(client._parts.kept) == 0  # type: ignore[arg-type]
            assert all(not worker.service.stage.pool.reserved for worker in swarm.workers)
            assert (await ask(client, PROMPT)).cached_tokens == 0

    play(model, act, client_config=ClientConfig(kept_seconds=200))


def test_a_lease_that_lapsed(model: Path, unsplit: Any) -> None:
    async def act(swarm: LocalSwarm) -> None:
        async with swarm.client() as client:
            await ask(client, PROMPT)
            await asyncio.sleep(10)
            assert all(not worker.service.stage.pool.reserved for worker in swarm.workers)
            answer = await ask(client, PROMPT)
            assert (answer.cached_tokens, answer.token_ids) == (0, unsplit(PROMPT))

    play(model, act, worker_config=WorkerConfig(lease_seconds=5.0))


def test_a_client_that_vanishes_leaves_nothing(model: Path) -> None:
    async def act(swarm: LocalSwarm) -> None:
        async with swarm.client() as client:
            await ask(client, PROMPT)
            assert any(worker.service.stage.pool.reserved for worker in swarm.workers)
            swarm.hub.kill(client.identity.peer_id)
            await asyncio.sleep(10)
            assert all(not worker.service.stage.pool.reserved for worker in swarm.workers)

    play(model, act)


def test_workers_that_drain_drop_what_is_kept(model: Path, unsplit: Any) -> None:
    async def act(swarm: LocalSwarm) -> None:
        async with swarm.client() as client:
            first = await ask(client, PROMPT)
            drained = [swarm.worker(hop.peer_id.short) for hop in first.session.chain.hops]  # type: ignore[union-attr]
            for worker in drained:
                worker.service.drain()
                await worker.service.drained()
                assert worker.service.stage.pool.reserved == 0
            again = await ask(client, PROMPT)
            assert (again.cached_tokens, again.token_ids) == (0, unsplit(PROMPT))

    play(model, act)


@pytest.mark.parametrize("moments", range(1, 40, 3))
def test_an_answer_that_is_given_up_is_not_kept(model: Path, moments: int) -> None:
    """Cancelled at any moment after its session began with another's rows, or before."""

    async def act(swarm: LocalSwarm) -> None:
        async with swarm.client() as client:
            first = client.generate(PROMPT, options=OPTIONS)
            await anext(first)
            second = client.generate([*PROMPT, 1], options=OPTIONS)
            reading = asyncio.create_task(second.read())
            for _ in range(moments):
                await asyncio.sleep(0.001)
                await asyncio.sleep(0)
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading
            given_up = second.finish_reason is None
            await second.aclose()
            await first.aclose()
            if given_up:
                await asyncio.sleep(5)
                assert all(not worker.service.stage.pool.reserved for worker in swarm.workers)
                assert not client._parts.kept._parents  # type: ignore[union-attr]

    play(model, act)
