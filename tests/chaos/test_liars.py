"""Every kind of lie: wrong where it shall be, the same each time, and without a trace in what it does not lie about."""

import pytest
import torch
from support.models import make_config

from chaos.liars import Lie, always, in_replays, lie
from swarm.engine import Stage
from swarm.model.spec import ModelSpec
from swarm.span import LayerSpan

SPEC = ModelSpec.from_config(make_config())
SPAN = LayerSpan(1, 3)
PROMPT, DECODED = 130, 5  # rows: two chunks, then one by one
FROM_THE_FIRST_ROW = [
    Lie.LAST_BIT,
    Lie.SMALL_NOISE,
    Lie.LARGE_NOISE,
    Lie.IDENTITY,
    Lie.SKIPPED_LAYER,
    Lie.OTHER_WEIGHTS,
]


@pytest.fixture(scope="module", params=["fp32", "bf16", "portable fp32", "portable int4"])
def honest(request):
    numerics, _, precision = request.param.rpartition(" ")
    return Stage.random(SPEC, SPAN, precision, seed=3, numerics=numerics or "native")


@pytest.fixture(scope="module")
def prompt():
    return torch.randn(PROMPT + DECODED, SPEC.hidden, generator=torch.Generator().manual_seed(5))


def session(stage, rows, bulk=False):
    """Outputs of a prompt in two chunks and of the rows decoded after it: one by one, or in bulk as in a replay."""
    rows = rows.to(stage.dtype)
    cache = stage.open(PROMPT + DECODED)
    parts = [stage.chunk(cache, rows[:128]), stage.chunk(cache, rows[128:PROMPT])]
    size = DECODED if bulk else 1
    for start in range(PROMPT, PROMPT + DECODED, size):
        parts += stage.decode([(cache, rows[start : start + size])])
    cache.close()
    return parts


@pytest.mark.parametrize("kind", Lie)
def test_a_lie_is_wrong_and_the_same_each_time_also_in_bulk(honest, prompt, kind):
    right = torch.cat(session(honest, prompt))
    told = torch.cat(session(lie(honest, kind, 7), prompt))
    assert told.shape == right.shape  # a wrong shape is told as the rows leave
    assert torch.equal(told, torch.cat(session(lie(honest, kind, 7), prompt, bulk=True))) or kind is Lie.NAN
    if kind is Lie.WRONG_SHAPE:
        return
    differing = (told != right).any(dim=1)
    if kind is Lie.ONE_ROW:
        assert (told != right).sum() == differing.sum()
        assert differing.nonzero().flatten().tolist() == list(range(1, PROMPT + DECODED, 16))
        return
    assert differing[PROMPT:].all()
    assert kind not in FROM_THE_FIRST_ROW or differing.all()
    assert bool(told.isfinite().all()) == (kind is not Lie.NAN)
    assert torch.equal(torch.cat(session(honest, prompt)), right)


def test_a_wrong_shape_leaves_the_stage(honest, prompt):
    liar = lie(honest, Lie.WRONG_SHAPE)
    chunk, *_, row = session(liar, prompt)
    assert liar.tensor(chunk).shape == (128, SPEC.hidden - 1)
    assert liar.tensor(row).shape == (1, SPEC.hidden - 1)
    assert len(liar.tensor(row).data) == (SPEC.hidden - 1) * honest.dtype.itemsize


def test_how_far_rows_are_moved(prompt):
    honest = Stage.random(SPEC, SPAN, "fp32", seed=3)
    right = torch.cat(session(honest, prompt))

    def errors(kind):
        moved = torch.cat(session(lie(honest, kind), prompt)) - right
        return moved.norm(dim=1) / (right - prompt).norm(dim=1)

    assert errors(Lie.IDENTITY) == pytest.approx(1.0, abs=1e-5)
    assert errors(Lie.SMALL_NOISE) == pytest.approx(0.02, rel=1e-3)
    assert errors(Lie.LARGE_NOISE) == pytest.approx(1.0, rel=1e-3)
    assert 0 < errors(Lie.LAST_BIT).max() < 1e-6
    for kind in (Lie.SKIPPED_LAYER, Lie.OTHER_WEIGHTS, Lie.STALE_CACHE, Lie.HALF_CONTEXT):
        assert errors(kind).median() > 0.01 or kind is Lie.STALE_CACHE


def test_a_skipped_layer_is_a_stage_of_fewer_layers(prompt):
    two, one = Stage.random(SPEC, SPAN, "fp32", seed=3), Stage.random(SPEC, LayerSpan(1, 2), "fp32", seed=3)
    skips_the_second = lie(two, Lie.SKIPPED_LAYER, seed=1)
    assert torch.equal(torch.cat(session(skips_the_second, prompt)), torch.cat(session(one, prompt)))


@pytest.mark.parametrize("kind", [Lie.LAST_BIT, Lie.IDENTITY, Lie.STALE_CACHE, Lie.HALF_CONTEXT])
def test_neighbours_in_a_batch_are_told_the_truth_if_they_shall_be(honest, prompt, kind):
    rows = prompt.to(honest.dtype)
    caches = [honest.open(PROMPT) for _ in range(3)]
    liar = lie(honest, kind, moment=lambda cache, _: cache is caches[1])
    chunks = [liar.chunk(cache, rows[:4]) for cache in caches]
    told = liar.decode([(cache, rows[4:5]) for cache in caches])
    assert torch.equal(chunks[0], chunks[2])
    assert torch.equal(told[0], told[2])
    assert not torch.equal(told[0], told[1])
    assert liar.lies == 5
    for cache in caches:
        assert cache.position == 5
        cache.close()
    assert honest.pool.reserved == 0


def test_a_liar_may_lie_in_replays_only(honest, prompt):
    right = torch.cat(session(honest, prompt))
    assert torch.equal(torch.cat(session(lie(honest, Lie.IDENTITY, moment=in_replays), prompt)), right)
    replayed = torch.cat(session(lie(honest, Lie.IDENTITY, moment=in_replays), prompt, bulk=True))
    assert torch.equal(replayed[:PROMPT], right[:PROMPT])
    assert not (replayed[PROMPT:] == right[PROMPT:]).all(dim=1).any()


def test_a_liar_looks_as_honest_as_any(honest):
    liar = lie(honest, Lie.OTHER_WEIGHTS)
    assert always(honest.open(1), 1)
    for name in ("numerics", "precision", "span", "hidden", "weight_bytes", "pool", "manifest"):
        assert getattr(liar, name) == getattr(honest, name)
