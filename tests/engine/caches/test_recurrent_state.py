"""What is kept of layers whose state no row can be taken out of: where a session can go back to, and what it costs."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest
import torch
from support.families import CONFIGS
from torch import Tensor

from swarm.engine import CHUNK_ROWS, SessionCache, Stage, footprint
from swarm.engine.caches.kv_cache import PAGE_ROWS, pages_of
from swarm.engine.caches.recurrent_state import STATES, States, StateShape
from swarm.errors import LocalFault, Overloaded, SessionFault
from swarm.model.spec import ModelSpec
from swarm.span import LayerSpan

SPEC = ModelSpec.from_config(CONFIGS["qwen3-next-odd"])  # attention, then two layers that keep a state
WHOLE, RECURRENT = LayerSpan(0, 3), LayerSpan(1, 3)
STATE = 2 * (2 * (2 * 36 + 3 * 44) + 3 * 36 * 44) * 4  # bytes of one in fp32: both layers' windows and memories


@pytest.fixture(scope="module")
def stage() -> Stage:
    return Stage.random(SPEC, WHOLE, "fp32", seed=3)


def rows_of(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, SPEC.hidden, generator=torch.Generator().manual_seed(seed))


def held(cache: SessionCache) -> list[int]:
    return [position for position in range(cache.position + 1) if cache.holds(position)]


def taken(stage: Stage, *chunks: int) -> SessionCache:
    cache = stage.open(1000)
    for number, count in enumerate(chunks):
        stage.chunk(cache, rows_of(count, number))
    return cache


def test_a_session_goes_back_to_few_positions(stage: Stage) -> None:
    cache = stage.open(1000)
    assert held(cache) == [0]
    seen = []
    for count in (*[128] * 6, 40):
        stage.chunk(cache, rows_of(count))
        seen.append(held(cache))
    for count in (1, 1, 7):
        stage.decode([(cache, rows_of(count))])
        seen.append(held(cache))
    assert seen == [
        [0, 128],
        [0, 128, 256],
        [0, 128, 256, 384],
        [0, 128, 256, 384, 512],
        [0, 128, 256, 384, 512, 640],
        [0, 128, 256, 384, 640, 768],  # where whole chunks end, one as far from the other as may be
        [0, 128, 384, 640, 768, 808],
        [0, 128, 384, 768, 808, 809],  # and where the last call began
        [0, 128, 384, 768, 809, 810],
        [0, 128, 384, 768, 810, 817],
    ]
    assert [cache.beginning(rows) for rows in (127, 128, 400, 800, 2000)] == [0, 128, 384, 768, 768]


@pytest.mark.parametrize("chunks", [9, 20, 33, 78])
def test_those_that_others_may_begin_with_lie_evenly(chunks: int) -> None:
    states = States([StateShape((1, 1), (1, 1, 1))], torch.float32, torch.device("cpu"))
    for chunk in range(chunks):
        states.begin(128 * chunk)
        states.commit(128 * (chunk + 1), True)
    for row in range(4):
        states.begin(128 * chunks + row)
        states.commit(128 * chunks + row + 1, False)
    held = [rows for rows in range(1, 128 * chunks + 1) if states.beginning(rows) == rows]
    assert len(held) == STATES - 2
    assert held[-1] == 128 * chunks
    gaps = [after - before for before, after in pairwise([0, *held])]
    assert max(gaps) <= 128 * chunks * 2 / 3


def test_whole_chunks_are_those_of_the_beginning(stage: Stage) -> None:
    cache = taken(stage, 128, 100, 128)
    for _ in range(5):
        stage.decode([(cache, rows_of(1))])
    assert held(cache) == [0, 128, 360, 361]
    assert cache.beginning(361) == 128
    assert taken(stage, 100, 128, 128).beginning(356) == 0


def test_where_rows_have_one_set_of_bits_it_does_not_matter_how_they_came() -> None:
    stage = Stage.random(SPEC, WHOLE, "fp32", seed=3, numerics="portable")
    rows = rows_of(300)
    cache = stage.open(1000)
    stage.chunk(cache, rows[:100])
    for at in (100, 101):
        stage.decode([(cache, rows[at : at + 1])])
    stage.decode([(cache, rows[102:128])])
    stage.chunk(cache, rows[128:200])
    stage.decode([(cache, rows[200:300])])  # more than go through the layers together
    assert [cache.beginning(each) for each in (127, 128, 300)] == [0, 128, 128]
    child = stage.open(1000)
    stage.copy(child, cache, 128, WHOLE)
    whole = stage.open(1000)
    stage.chunk(whole, rows[:128])
    expected = stage.chunk(whole, rows[128:256])
    assert torch.equal(stage.chunk(child, rows[128:256]), expected)
    assert whole.beginning(300) == child.beginning(300) == 256


@pytest.mark.parametrize("seed", range(6))
def test_what_comes_after_going_back_is_what_came_without_it(stage: Stage, seed: int) -> None:
    """A story of calls, some of which are undone or fail; each row's bits are those of the story without these."""
    rng = random.Random(seed)
    cache, straight = stage.open(1000), stage.open(1000)
    for number in range(12):
        chunk = rng.random() < 0.4
        rows = rows_of(rng.choice((1, 3, 128) if chunk else (1, 1, 5)), seed=number)
        before = cache.position
        for _ in range(rng.randint(0, 2)):  # calls that have not happened
            if rng.random() < 0.5:
                stage.decode([(cache, rows_of(rng.randint(1, 4), seed=99))])
                cache.rollback(before)
            else:
                with pytest.raises(ZeroDivisionError):
                    failing(stage, cache, rows)
        outputs = []
        for each in (cache, straight):
            outputs.append(stage.chunk(each, rows) if chunk else stage.decode([(each, rows)])[0])
        assert torch.equal(*outputs)
    cache.rollback(0)
    assert torch.equal(stage.chunk(cache, rows_of(9)), stage.chunk(stage.open(9), rows_of(9)))


def failing(stage: Stage, cache: SessionCache, rows: Tensor) -> None:
    """A call that fails when all layers have written their states."""
    decode = stage.decoder.decode

    def fail(*given: Any) -> Tensor:
        decode(*given)
        raise ZeroDivisionError

    stage.decoder.decode = fail  # type: ignore[method-assign]
    try:
        stage.decode([(cache, rows)])
    finally:
        stage.decoder.decode = decode  # type: ignore[method-assign]


def test_anything_else_is_refused_not_computed(stage: Stage) -> None:
    cache = taken(stage, 128, 128, 40)
    for _ in range(4):
        stage.decode([(cache, rows_of(1))])
    for position in (1, 127, 296, 297, 301):
        assert not cache.holds(position)
        with pytest.raises(LocalFault, match=f"cannot be rolled back to {position}"):
            cache.rollback(position)
    assert cache.position == 300
    cache.rollback(256)
    assert held(cache) == [0, 128, 256]


def test_a_session_may_begin_where_another_s_whole_chunks_end(stage: Stage) -> None:
    parent, straight = taken(stage, 128, 128, 40), taken(stage, 128, 128)
    stage.decode([(parent, rows_of(5))])
    child = stage.open(1000)
    for layer in WHOLE:
        stage.copy(child, parent, 256, LayerSpan(layer, layer + 1))
    assert held(child) == [0, 128, 256]
    for number in range(3):
        rows = rows_of(1, seed=50 + number)
        assert torch.equal(stage.decode([(child, rows)])[0], stage.decode([(straight, rows)])[0])
    grandchild = stage.open(1000)
    stage.copy(grandchild, child, 128, WHOLE)
    assert held(grandchild) == [0, 128]
    rows = rows_of(9, seed=60)
    assert torch.equal(stage.chunk(grandchild, rows), stage.chunk(taken(stage, 128), rows))
    with pytest.raises(SessionFault, match="none is held at 100"):
        stage.copy(stage.open(1000), parent, 100, WHOLE)


def test_what_has_ended_keeps_what_others_may_begin_with(stage: Stage) -> None:
    pool, before = stage.pool, stage.pool.reserved
    cache = taken(stage, 128, 128, 30)
    stage.decode([(cache, rows_of(1))])
    row = 2 * SPEC.kinds[0].kv_heads * SPEC.kinds[0].head_dim * 4
    assert pool.reserved - before == 1024 * row + STATES * STATE == pool.needed(1000, WHOLE)
    assert cache.settle() == pool.reserved - before == 512 * row + 2 * STATE
    child = stage.open(1000)
    stage.copy(child, cache, 128, WHOLE)
    assert held(child) == [0, 128]
    child.close()
    cache.close()
    short = taken(stage, 30)
    assert short.settle() == PAGE_ROWS * row
    short.close()
    assert pool.reserved == before


def test_a_budget_counts_states() -> None:
    row = 2 * SPEC.kinds[0].kv_heads * SPEC.kinds[0].head_dim * 4
    budget = 2 * STATES * STATE + 10 * PAGE_ROWS * row
    stage = Stage.random(SPEC, WHOLE, "fp32", cache_bytes=budget)
    pool = stage.pool
    for free in (budget, 3 * STATE + 128 * row, 2 * STATE + 128 * row - 1, 2 * STATE + PAGE_ROWS * row, 3 * STATE - 1):
        tokens = pool.tokens_of(free)
        assert pool.needed(tokens, WHOLE) <= free < pool.needed(tokens + PAGE_ROWS, WHOLE)
    assert pool.tokens_of(2 * STATE + PAGE_ROWS * row - 1) == pool.tokens_of(0) == 0
    caches = [stage.open(6 * PAGE_ROWS), stage.open(4 * PAGE_ROWS)]
    assert pool.reserved == budget - STATE  # the shorter one will not hold as many
    with pytest.raises(Overloaded, match="0 tokens, 2 sessions"):
        stage.open(1)
    for cache in caches:
        cache.close()
    for rows, states in ((1, 2), (127, 2), (128, 3), (256, 4), (384, 5), (2000, 5)):
        one, none = (footprint(SPEC, WHOLE, "fp32", cache_rows=each) for each in (rows, 0))
        assert one - none == pool.needed(rows, WHOLE) == pages_of(rows) * row + states * STATE


@pytest.mark.parametrize("chunked", [0, 127, 128, 200, 256, 400, 900])
def test_a_session_never_holds_more_than_it_reserved(chunked: int) -> None:
    max_rows = chunked + 5
    part = Stage.random(SPEC, RECURRENT, "fp32", seed=3)
    cache = part.open(max_rows)
    for start in range(0, chunked, 128):
        part.chunk(cache, rows_of(min(128, chunked - start)))
        cache.rollback(start)
        part.chunk(cache, rows_of(min(128, chunked - start)))
    while cache.position < max_rows:
        part.decode([(cache, rows_of(1))])
    assert cache._states.bytes <= part.pool.reserved == part.pool.needed(max_rows, RECURRENT)
    assert cache.settle() == cache._states.bytes == part.pool.reserved


def test_a_span_that_keeps_no_rows(stage: Stage) -> None:
    part = Stage.random(SPEC, RECURRENT, "fp32", cache_bytes=3 * STATES * STATE - 1)
    assert (
        part.pool.tokens_free == 2 * SPEC.max_positions + 5 * PAGE_ROWS
    )  # two sessions, and one that holds a state less
    caches = [part.open(SPEC.max_positions), part.open(SPEC.max_positions)]
    assert part.pool.tokens_free == 5 * PAGE_ROWS
    with pytest.raises(Overloaded):
        part.open(384)
    part.open(383).close()
    assert part.copies(CHUNK_ROWS, RECURRENT) == [RECURRENT]
    part.chunk(caches[0], rows_of(128))
    assert held(caches[0]) == [0, 128]


def test_misuse_is_a_local_fault() -> None:
    states = States([StateShape((2, 5), (1, 2, 3))], torch.float32, torch.device("cpu"))
    with pytest.raises(LocalFault, match="no call has begun"):
        states.layer(0, 0)
    with pytest.raises(LocalFault, match="go on from 7"):
        states.begin(7)
    states.begin(0)
    states.commit(7, False)
    with pytest.raises(LocalFault, match="no call has begun"):
        states.commit(7, False)
    assert repr(states) == "<States at [0, 7]>"
