"""What a session wishes for is a ceiling: caches grow with it, and it ends where no chain holds more, told or at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.clock import run_virtual
from support.models import make_model
from support.swarm import LocalSwarm

from swarm.client import Client
from swarm.client.generate import Answer, Options
from swarm.client.room import USUAL_ANSWER, Room, chain_rows, rows_within
from swarm.engine.backends import open_model
from swarm.errors import PromptTooLong
from swarm.span import LayerSpan
from swarm.trace import Event, Trace

PROMPT = [(7 * index) % 250 for index in range(140)]
ROW = 512  # bytes in two layers of the model
WISH = 400  # tokens
USUAL = 16  # here: rows that a session reserves beyond its prompt


@pytest.fixture(scope="module")
def everything(model: Path) -> list[int]:
    """The wish's tokens, unsplit."""

    async def main() -> list[int]:
        async with Client(model, local=True, precision="fp32") as client:
            return (await ask(client)).token_ids

    return asyncio.run(main())


@pytest.fixture(autouse=True)
def short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarm.client.room.USUAL_ANSWER", USUAL)


async def ask(client: Client, prompt: list[int] = PROMPT) -> Answer:
    answer = client.generate(prompt, options=Options(max_tokens=WISH, ignore_eos=True), reuse=False)
    await answer.read()
    return answer


@asynccontextmanager
async def holding(model: Path, rows: int, *others: int) -> AsyncIterator[LocalSwarm]:
    """Two workers with room for so many rows, and as many more with room for others."""
    async with LocalSwarm(model, [(0, 2), (2, 4)], cache_bytes=rows * ROW) as swarm:
        for room in others:
            await roomier(swarm, room)
        yield swarm


async def roomier(swarm: LocalSwarm, rows: int) -> None:
    swarm.cache_bytes = rows * ROW
    for span in ((0, 2), (2, 4)):
        await swarm.add_span(*span)


def test_what_a_session_reserves() -> None:
    room = Room(least=101, most=1000)
    assert room.wishes() == (101 + USUAL, 101)
    assert room.wishes(held=200) == (201 + USUAL, 201)
    assert room.wishes(held=990) == (1000, 991)
    assert Room.whole(7).wishes() == (7, 7)
    assert USUAL_ANSWER > USUAL


def test_rows_within_bytes_are_those_that_the_worker_s_own_budget_takes(model: Path) -> None:
    opened, span = open_model(model), LayerSpan(1, 4)
    stage = opened.load_stage(span, "fp32", cache_bytes=100_000)
    rows = rows_within(opened, span, "fp32", 100_000)
    assert rows == stage.pool.tokens_free > 0
    assert stage.pool.needed(rows, span) <= 100_000 < stage.pool.needed(rows + 1, span)
    assert rows_within(opened, span, "fp32", 0) == 0
    assert rows_within(opened, span, "fp32", 1 << 40) == opened.spec.max_positions


def test_a_chain_holds_what_its_narrowest_layer_does_at_the_roomiest_worker(model: Path) -> None:
    async def main() -> None:
        async with holding(model, 128, 640) as swarm:
            records = [signed.record for signed in await swarm.records.lookup(swarm.model)]
            rows_of = {record.peer_id: record.memory_free // ROW for record in records}
            whole = LayerSpan(0, 4)
            assert chain_rows(records, whole, lambda record: rows_of[record.peer_id]) == 640
            assert chain_rows(records[:3], whole, lambda record: rows_of[record.peer_id]) == 128
            assert chain_rows(records[:1], whole, lambda record: 5) == 0

    run_virtual(main())


def test_a_wish_beyond_the_cache_is_answered_up_to_there(model: Path, everything: list[int]) -> None:
    async def main() -> None:
        async with holding(model, 256) as swarm, swarm.client() as client:
            began = asyncio.get_running_loop().time()
            answer = await ask(client)
            assert answer.finish_reason == "length"
            assert answer.token_ids == everything[: 256 - len(PROMPT) + 1]  # the last one needs no row
            assert not answer.context_full
            assert asyncio.get_running_loop().time() - began < 1
            await swarm.freed(5)

    run_virtual(main())


def test_a_prompt_that_no_chain_ever_holds_is_refused_at_once_with_the_limit(model: Path) -> None:
    async def main() -> None:
        async with holding(model, 128) as swarm, swarm.client() as client:
            began = asyncio.get_running_loop().time()
            with pytest.raises(PromptTooLong, match="140 tokens; there is room for 128") as refused:
                await ask(client)
            assert (refused.value.tokens, refused.value.most) == (140, 128)
            with pytest.raises(PromptTooLong, match="140 tokens; there is room for 128"):
                await client.embed(PROMPT)
            assert asyncio.get_running_loop().time() - began < 1
            assert len((await ask(client, PROMPT[:127])).token_ids) == 2

    run_virtual(main())


def test_a_session_begins_where_there_is_room_for_a_usual_answer(model: Path, everything: list[int]) -> None:
    async def main() -> None:
        async with holding(model, 128, 640) as swarm, swarm.client() as client:
            answer = await ask(client)
            assert answer.token_ids == everything
            assert not client.peers.avoided(strictly=True)  # type: ignore[union-attr]

    run_virtual(main())


def test_a_session_whose_worker_has_no_more_room_moves_to_one_that_has(model: Path, everything: list[int]) -> None:
    async def main() -> None:
        async with holding(model, 256) as swarm, swarm.client() as client:
            answer = client.generate(PROMPT, options=Options(max_tokens=WISH, ignore_eos=True))
            async for token in answer:
                if token.index == 50:
                    await roomier(swarm, 640)
            assert answer.token_ids == everything
            assert answer.finish_reason == "length"
            assert len(answer.session.recoveries) == 2  # type: ignore[union-attr]
            assert answer.session.exact  # type: ignore[union-attr]

    run_virtual(main())


def test_sessions_that_all_want_more_than_there_is_all_end_and_none_loses_what_it_has(
    model: Path, everything: list[int]
) -> None:
    async def main() -> None:
        async with holding(model, 1024) as swarm, swarm.client() as client:
            answers = await asyncio.gather(*(ask(client) for _ in range(3)))
            for answer in answers:
                assert answer.finish_reason == "length"
                assert answer.token_ids == everything[: len(answer.token_ids)]
                assert len(answer.token_ids) > USUAL
            assert any(answer.token_ids == everything for answer in answers)
            await swarm.freed(5)

    run_virtual(main())


@pytest.mark.parametrize("victim", [0, 1])
def test_a_worker_that_dies_after_its_cache_grew(model: Path, everything: list[int], victim: int) -> None:
    async def main() -> None:
        async with holding(model, 640, 640) as swarm:
            hops: list[str] = []

            def note(event: Event) -> None:
                if event.name == "hop.forward" and event.phase == "started":
                    hops.append(event.details["peer"])

            async with swarm.client(Trace(note)) as client:
                answer = client.generate(PROMPT, options=Options(max_tokens=WISH, ignore_eos=True))
                async for token in answer:
                    if token.index == 100:
                        swarm.worker(hops[victim - 2]).kill()
                assert answer.token_ids == everything
                assert len(answer.session.recoveries) == 1  # type: ignore[union-attr]

    run_virtual(main())


@pytest.mark.parametrize("rows", [448, 640])
def test_a_session_that_begins_with_another_s_rows_grows_too(model: Path, everything: list[int], rows: int) -> None:
    async def main() -> None:
        async with holding(model, rows) as swarm, swarm.client() as client:
            first = client.generate(PROMPT, options=Options(max_tokens=4, ignore_eos=True))
            await first.read()
            answer = client.generate(PROMPT, options=Options(max_tokens=WISH, ignore_eos=True))
            await answer.read()
            assert answer.cached_tokens == 139
            assert answer.token_ids == everything[: min(WISH, rows - len(PROMPT) + 1)]
            assert answer.finish_reason == "length"

    run_virtual(main())


def test_in_one_process_too(model: Path, everything: list[int]) -> None:
    async def main() -> None:
        async with Client(
            model, local=True, precision="fp32", cache_bytes=lambda opened, precision: 448 * 2 * ROW
        ) as client:
            answer = await ask(client)
            assert answer.token_ids == everything[: 448 - len(PROMPT) + 1]
            assert answer.finish_reason == "length"
            with pytest.raises(PromptTooLong, match="560 tokens; there is room for 448"):
                await ask(client, PROMPT * 4)
            kept = client.generate(PROMPT, options=Options(max_tokens=4, ignore_eos=True))
            await kept.read()
            again = client.generate(PROMPT, options=Options(max_tokens=WISH, ignore_eos=True))
            await again.read()
            assert (kept.cached_tokens, again.cached_tokens) == (0, 139)
            assert again.token_ids == everything[: 448 - len(PROMPT) + 1]
            other = client.generate(PROMPT, options=Options(max_tokens=4, ignore_eos=True), owner="somebody else")
            await other.read()
            assert (other.cached_tokens, other.token_ids) == (0, everything[:4])

    asyncio.run(main())


def test_make_model_is_what_row_says(tmp_path: Path) -> None:
    opened = open_model(make_model(tmp_path / "model"))
    span = LayerSpan(0, 2)
    assert opened.footprint(span, "fp32", 64) - opened.footprint(span, "fp32") == 64 * ROW
