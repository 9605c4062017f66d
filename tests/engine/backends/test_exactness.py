"""What exactness rests on, where the library computes: a row's bits depend on its session alone. All by `torch.equal`."""

from __future__ import annotations

import random

import pytest
import torch
from support.library import make_library_model
from torch import Tensor

from swarm.engine import CHUNK_ROWS
from swarm.engine.backends.library.cache import SpanCache
from swarm.engine.backends.library.model import LibraryModel
from swarm.engine.backends.library.stage import LibraryStage
from swarm.engine.caches.kv_cache import PAGE_ROWS
from swarm.errors import LocalFault, Overloaded, UsageFault
from swarm.span import LayerSpan

STEPS = 10
FAMILIES = ("starcoder2", "olmoe", "gpt_bigcode")


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LibraryModel:
    return LibraryModel.open(make_library_model(tmp_path_factory.mktemp("model"), request.param))


@pytest.fixture(scope="module", params=["fp32", "bf16"])
def stage(model: LibraryModel, request: pytest.FixtureRequest) -> LibraryStage:
    return model.load_stage(precision=request.param)


def rows_of(stage: LibraryStage, count: int, seed: int) -> Tensor:
    return torch.randn(count, stage.hidden, generator=torch.Generator().manual_seed(seed)).to(stage.dtype)


def contents(cache: SpanCache) -> list[Tensor]:
    """Every key and value, layer by layer."""
    held = [cache.layer(layer) for layer in cache.span]
    assert all(layer.get_seq_length() == cache.position for layer in held)
    return [part for layer in held for part in (layer.keys, layer.values)]


def same(one: SpanCache, other: SpanCache) -> bool:
    return all(torch.equal(a, b) for a, b in zip(contents(one), contents(other), strict=True))


def session(stage: LibraryStage, number: int, span: LayerSpan | None = None) -> SpanCache:
    """One whose prompt is computed: a chunk of its own length."""
    cache = stage.open(200, span)
    stage.chunk(cache, rows_of(stage, 25 + 7 * number, number))
    return cache


def test_company_changes_nothing(stage: LibraryStage) -> None:
    rng = random.Random(3)
    ahead = [rows_of(stage, STEPS, 100 + number) for number in range(4)]
    alone = [session(stage, number) for number in range(4)]
    expected = [torch.cat([stage.decode([(alone[i], row)])[0] for row in ahead[i].split(1)]) for i in range(4)]
    together = [session(stage, number) for number in range(4)]
    taken, outputs = [0] * 4, [[] for _ in range(4)]
    while min(taken) < STEPS:
        live = [i for i in range(4) if taken[i] < STEPS]
        live = rng.sample(live, rng.randint(1, len(live)))
        counts = [min(rng.choice((1, 1, 3)), STEPS - taken[i]) for i in live]
        work = [(together[i], ahead[i][taken[i] : taken[i] + n]) for i, n in zip(live, counts, strict=True)]
        for i, n, rows in zip(live, counts, stage.decode(work), strict=True):
            outputs[i].append(rows)
            taken[i] += n
    for i in range(4):
        assert torch.equal(torch.cat(outputs[i]), expected[i])
        assert same(together[i], alone[i])


def test_rows_taken_back_leave_no_trace(stage: LibraryStage) -> None:
    """Also behind a window that has moved past them."""
    ahead = rows_of(stage, STEPS, 5)
    undisturbed, cache = session(stage, 1), session(stage, 1)
    (expected,) = stage.decode([(undisturbed, ahead)])
    for row in range(STEPS):
        position = cache.position
        stage.decode([(cache, rows_of(stage, 6, row))])
        cache.rollback(position)
        (made,) = stage.decode([(cache, ahead[row : row + 1])])
        assert torch.equal(made[0], expected[row])
    assert same(cache, undisturbed)
    start = cache.position - STEPS
    cache.rollback(start)
    assert torch.equal(stage.decode([(cache, ahead)])[0], expected)
    cache.rollback(0)
    stage.chunk(cache, rows_of(stage, 32, 1))
    assert torch.equal(stage.decode([(cache, ahead)])[0], expected)
    assert same(cache, undisturbed)


def test_cuts_at_every_layer(model: LibraryModel, stage: LibraryStage) -> None:
    ahead = rows_of(stage, STEPS, 9)
    whole = session(stage, 2)
    (expected,) = stage.decode([(whole, ahead)])
    for cut in range(1, model.spec.layer_count):
        spans = LayerSpan(0, cut), LayerSpan(cut, model.spec.layer_count)
        for parts in ([stage, stage], [model.load_stage(span, precision=stage.precision) for span in spans]):
            caches = [part.open(200, span) for part, span in zip(parts, spans, strict=True)]
            prompt, rows = rows_of(stage, 39, 2), ahead
            for part, cache in zip(parts, caches, strict=True):
                prompt = part.chunk(cache, prompt)
                (rows,) = part.decode([(cache, rows)])
            assert torch.equal(rows, expected)
            both = [tensor for cache in caches for tensor in contents(cache)]
            assert all(torch.equal(a, b) for a, b in zip(both, contents(whole), strict=True))


def test_a_session_that_begins_with_another_s_rows(stage: LibraryStage) -> None:
    parent, child, again = stage.open(200), stage.open(200), stage.open(200)
    chunk, more = rows_of(stage, CHUNK_ROWS, 1), rows_of(stage, 20, 2)
    for cache in (parent, again):
        stage.chunk(cache, chunk)
        stage.chunk(cache, more)
    for layers in stage.copies(CHUNK_ROWS, stage.span):
        assert not child.position
        stage.copy(child, parent, CHUNK_ROWS, layers)
    parent.close()
    stage.chunk(child, more)
    assert same(child, again)
    with pytest.raises(UsageFault, match="cannot give its first 149 rows"):
        stage.copy(stage.open(200), child, 149, stage.span)


def test_together_is_nearly_one_by_one(stage: LibraryStage) -> None:
    rows = rows_of(stage, 40, 4)
    together, alone = stage.open(40), stage.open(40)
    chunk, (steps,) = stage.chunk(together, rows), stage.decode([(alone, rows)])
    error = (chunk - steps).float().norm() / (steps - rows).float().norm()
    assert error < (1e-5 if stage.precision == "fp32" else 0.05)


def test_logits_do_not_depend_on_neighbours_nor_rows_on_what_is_embedded_with_them(model: LibraryModel) -> None:
    for precision in ("fp32", "bf16"):
        head = model.load_head(precision)
        ids = [(7 * index) % 280 for index in range(CHUNK_ROWS + 40)]
        embedded = head.embed(ids, 3)
        assert torch.equal(embedded, torch.cat([head.embed([id_], 3 + index) for index, id_ in enumerate(ids)]))
        rows = embedded[:9]
        logits = head.logits(rows)
        assert (logits.dtype, logits.shape) == (torch.float32, (9, 288))
        assert torch.equal(logits, torch.cat([head.logits(row) for row in rows.split(1)]))


def test_what_does_not_fit_is_refused_before_it_starts(model: LibraryModel) -> None:
    row = sum(model.spec.row_bytes("bf16"))
    stage = model.load_stage(cache_bytes=3 * PAGE_ROWS * row)
    pool = stage.pool
    first, second = stage.open(PAGE_ROWS + 1), stage.open(1, LayerSpan(0, 1))
    assert pool.reserved == 2 * PAGE_ROWS * row + PAGE_ROWS * model.spec.row_bytes("bf16")[0]
    assert (pool.tokens_free, pool.sessions) == (0, 2)
    with pytest.raises(Overloaded, match="a cache of 1 tokens"):
        stage.open(1)
    stage.chunk(first, rows_of(stage, 5, 1))
    held = sum(tensor.nbytes for tensor in contents(first))
    assert held == 5 * row
    assert first.settle() == PAGE_ROWS * row == pool.reserved - PAGE_ROWS * model.spec.row_bytes("bf16")[0]
    for cache in (first, second, second):
        cache.close()
    assert (pool.reserved, pool.sessions, pool.tokens_free) == (0, 0, 3 * PAGE_ROWS)
    with pytest.raises(LocalFault, match="after it was closed"):
        stage.decode([(first, rows_of(stage, 1, 1))])


def test_a_call_that_failed_may_be_repeated(stage: LibraryStage, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = rows_of(stage, 2, 8)
    cache, undisturbed = session(stage, 3), session(stage, 3)
    expected = stage.decode([(undisturbed, ahead)])[0]
    real = stage._anatomy.real

    def fails_late(layer: int, call: object) -> object:
        if layer == stage.span.stop - 1:
            raise MemoryError
        return real(layer, call)  # type: ignore[arg-type]

    monkeypatch.setattr(stage._anatomy, "real", fails_late)
    with pytest.raises(MemoryError):
        stage.decode([(cache, ahead)])
    monkeypatch.undo()
    assert torch.equal(stage.decode([(cache, ahead)])[0], expected)
    assert same(cache, undisturbed)


def test_rows_that_are_none_of_this_stage_s(stage: LibraryStage) -> None:
    cache = stage.open(4)
    for bad in (torch.zeros(1, 63, dtype=stage.dtype), torch.zeros(64, dtype=stage.dtype), torch.zeros(1, 64).double()):
        with pytest.raises(UsageFault, match="rows of"):
            stage.chunk(cache, bad)
    with pytest.raises(UsageFault, match="5 do not fit"):
        stage.decode([(cache, rows_of(stage, 5, 1))])
    with pytest.raises(UsageFault, match="at most 128"):
        stage.chunk(stage.open(200), rows_of(stage, 129, 1))
    with pytest.raises(LocalFault, match="twice in one batch"):
        stage.decode([(cache, rows_of(stage, 1, 1)), (cache, rows_of(stage, 1, 1))])
    with pytest.raises(UsageFault, match="layers 0-3 was asked"):
        stage.open(4, LayerSpan(0, 4))
