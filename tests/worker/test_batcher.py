"""How rows of many sessions are joined, by what the stage is asked to compute."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from support.clock import run_virtual

from swarm.errors import Overloaded
from swarm.wire.rows import Rows
from swarm.worker.batcher import MAX_BATCH_ROWS, Batcher

DECODE_SECONDS, CHUNK_SECONDS = 0.1, 1.0


class FakeCache:
    def __init__(self, name: str, position: int = 0) -> None:
        self.name = name
        self.position = position

    def rollback(self, position: int) -> None:
        assert position <= self.position
        self.position = position


class FakeStage:
    """Rows are lists of numbers; the answer is the negated rows. Keeps what it was asked."""

    def __init__(self) -> None:
        self.calls: list[list[tuple[str, int]]] = []
        self.poison: set[str] = set()

    def decode(self, work: list[tuple[FakeCache, list[int]]]) -> list[list[int]]:
        self.calls.append([(cache.name, len(rows)) for cache, rows in work])
        if bad := self.poison & {cache.name for cache, _ in work}:
            raise ValueError(f"bad rows of {bad.pop()}")
        for cache, rows in work:
            cache.position += len(rows)
        return [[-row for row in rows] for _, rows in work]

    def chunk(self, cache: FakeCache, rows: list[int]) -> list[int]:
        self.calls.append([(f"chunk {cache.name}", len(rows))])
        cache.position += len(rows)
        return [-row for row in rows]


class SlowCompute:
    """Takes its time, on the loop's clock."""

    def __init__(self, stage: FakeStage) -> None:
        self._stage = stage

    async def run(self, function: Callable[[], Any]) -> Any:
        result = function()
        chunk = self._stage.calls[-1][0][0].startswith("chunk")
        await asyncio.sleep(CHUNK_SECONDS if chunk else DECODE_SECONDS)
        return result


def joined(parts: list[list[int]]) -> list[int]:
    return [row for part in parts for row in part]


def batcher(stage: FakeStage, max_queue_rows: int = 1000) -> Batcher:
    return Batcher(stage, SlowCompute(stage), joined, max_queue_rows)


async def decode(into: Batcher, cache: FakeCache, steps: int) -> None:
    for _ in range(steps):
        assert await into.submit(cache, cache.position, [cache.position], 1, Rows.DECODE) == [-cache.position + 1]


def test_sessions_that_decode_at_once_share_every_call() -> None:
    async def main() -> None:
        stage = FakeStage()
        async with batcher(stage) as into:
            await asyncio.gather(*(decode(into, FakeCache(str(index)), 10) for index in range(16)))
        # the first call may find one session alone; from then on all sixteen come together
        assert len(stage.calls) <= 12
        assert all(len(call) == 16 for call in stage.calls[2:-1])

    run_virtual(main())


def test_a_session_that_left_is_waited_for_once_at_most() -> None:
    async def main() -> float:
        stage = FakeStage()
        async with batcher(stage) as into:
            one, two = FakeCache("one"), FakeCache("two")
            await asyncio.gather(decode(into, one, 3), decode(into, two, 3))
            loop = asyncio.get_running_loop()
            began = loop.time()
            await decode(into, one, 10)
            return loop.time() - began

    assert run_virtual(main()) == pytest.approx(10 * DECODE_SECONDS, abs=0.6 * DECODE_SECONDS)


def test_a_lone_session_never_waits() -> None:
    async def main() -> float:
        async with batcher(FakeStage()) as into:
            loop = asyncio.get_running_loop()
            began = loop.time()
            await decode(into, FakeCache("one"), 10)
            return loop.time() - began

    assert run_virtual(main()) == pytest.approx(10 * DECODE_SECONDS)


def test_prompt_chunks_slip_between_decode_rows() -> None:
    async def main() -> list[list[tuple[str, int]]]:
        stage = FakeStage()
        async with batcher(stage) as into:

            async def prompt() -> None:
                cache = FakeCache("p")
                for _ in range(3):
                    await into.submit(cache, cache.position, [1] * 128, 128, Rows.CHUNK)

            await asyncio.gather(decode(into, FakeCache("d"), 4), prompt())
        return stage.calls

    names = [call[0][0] for call in run_virtual(main())]
    assert names == ["d", "chunk p", "d", "chunk p", "d", "chunk p", "d"]


def test_a_long_replay_goes_on_after_the_others_had_their_turn() -> None:
    async def main() -> list[list[tuple[str, int]]]:
        stage = FakeStage()
        async with batcher(stage) as into:
            replay = into.submit(FakeCache("replay"), 0, list(range(100)), 100, Rows.DECODE)
            rows, _ = await asyncio.gather(replay, decode(into, FakeCache("other"), 2))
            assert rows == [-row for row in range(100)]
        return stage.calls

    calls = run_virtual(main())
    assert calls[0] == [("replay", MAX_BATCH_ROWS)]
    assert ("other", 1) in calls[1]
    assert max(sum(rows for _, rows in call) for call in calls) <= MAX_BATCH_ROWS


def test_where_chunks_go_in_pieces_a_replay_takes_as_few_calls_as_its_prompt_did() -> None:
    async def main() -> list[list[tuple[str, int]]]:
        stage = FakeStage()
        async with Batcher(stage, SlowCompute(stage), joined, 1000, 128) as into:
            await into.submit(FakeCache("prompt"), 0, list(range(300)), 300, Rows.CHUNK)
            await into.submit(FakeCache("replay"), 0, list(range(300)), 300, Rows.DECODE)
        return stage.calls

    calls = [call[0][1] for call in run_virtual(main())]
    assert calls == 2 * [128, 128, 44]


def test_a_long_chunk_goes_on_after_the_others_had_their_turn() -> None:
    async def main() -> list[list[tuple[str, int]]]:
        stage = FakeStage()
        async with Batcher(stage, SlowCompute(stage), joined, 1000, 128) as into:
            prompts = [into.submit(FakeCache(name), 0, list(range(300)), 300, Rows.CHUNK) for name in "pq"]
            rows, others, _ = await asyncio.gather(*prompts, decode(into, FakeCache("d"), 2))
            assert rows == others == [-row for row in range(300)]
            assert into.queue_rows == 0
        return stage.calls

    calls = run_virtual(main())
    assert [call[0] for call in calls if call[0][0] != "d"] == [
        (f"chunk {name}", rows) for rows in (128, 128, 44) for name in "pq"
    ]
    assert [call[0][0] for call in calls].index("d") < 2


def test_one_session_s_error_reaches_it_alone() -> None:
    async def main() -> None:
        stage = FakeStage()
        stage.poison = {"bad"}
        async with batcher(stage) as into:
            good, bad = FakeCache("good"), FakeCache("bad")
            results = await asyncio.gather(
                into.submit(FakeCache("first"), 0, [0], 1, Rows.DECODE),
                into.submit(good, 0, [7], 1, Rows.DECODE),
                into.submit(bad, 0, [8], 1, Rows.DECODE),
                return_exceptions=True,
            )
            assert results[1] == [-7]
            assert isinstance(results[2], ValueError)
            await decode(into, good, 3)
            assert into.queue_rows == 0

    run_virtual(main())


def test_a_full_queue_is_refused() -> None:
    async def main() -> None:
        async with batcher(FakeStage(), max_queue_rows=4) as into:
            first = asyncio.create_task(into.submit(FakeCache("a"), 0, [1, 2, 3], 3, Rows.DECODE))
            await asyncio.sleep(0)
            with pytest.raises(Overloaded, match="3 rows are waiting"):
                await into.submit(FakeCache("b"), 0, [1, 2], 2, Rows.DECODE)
            await first

    run_virtual(main())


def test_rows_that_cannot_be_joined_are_their_session_s_error() -> None:
    async def main() -> None:
        stage = FakeStage()

        def join(parts: list[list[int]]) -> list[int]:
            raise MemoryError("the test has no room")

        async with Batcher(stage, SlowCompute(stage), join, 1000) as into:
            with pytest.raises(MemoryError):
                await into.submit(FakeCache("replay"), 0, list(range(100)), 100, Rows.DECODE)
            await decode(into, FakeCache("other"), 2)
            assert into.queue_rows == 0

    run_virtual(main())


@pytest.mark.parametrize("kind", [Rows.DECODE, Rows.CHUNK])
def test_whoever_waits_when_the_batcher_is_left_waits_no_longer(kind: Rows) -> None:
    """Rows in the queue, and rows on the compute thread."""

    async def main() -> None:
        async with batcher(FakeStage()) as into:
            waiting = [asyncio.create_task(into.submit(FakeCache(name), 0, [1], 1, kind)) for name in "ab"]
            await asyncio.sleep(DECODE_SECONDS / 2)
            late = asyncio.create_task(into.submit(FakeCache("c"), 0, [1], 1, kind))
            await asyncio.sleep(0)
        async with asyncio.timeout(1):
            await asyncio.wait([*waiting, late])
        assert all(task.cancelled() for task in (*waiting, late))

    run_virtual(main())
