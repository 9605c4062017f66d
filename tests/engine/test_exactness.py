"""The promise that everything rests on: a row's bits depend on its session alone. All comparisons are `torch.equal`."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from support.families import CONFIGS, EXACT
from support.models import make_config
from support.oracles import cuts_of
from torch import Tensor

from swarm.engine import PRECISIONS, Head, SessionCache, Stage
from swarm.engine.layers.activations import gated
from swarm.engine.layers.rope import RopeTable, rotate
from swarm.model.spec import ModelSpec
from swarm.span import LayerSpan

LAYERS = 3
WIDTHS = [
    # hidden, heads, kv_heads, head_dim, inner
    (64, 4, 2, 16, 160),
    (100, 5, 5, 20, 344),
    (344, 6, 3, 44, 100),
    (160, 5, 1, 32, 448),
]
STEPS = 12
Shape = tuple[int, int, int, int, int]


def spec_of(shape: Shape, **changes: object) -> ModelSpec:
    hidden, heads, kv_heads, head_dim, inner = shape
    return ModelSpec.from_config(
        make_config(
            hidden_size=hidden,
            num_attention_heads=heads,
            num_key_value_heads=kv_heads,
            head_dim=head_dim,
            intermediate_size=inner,
            num_hidden_layers=LAYERS,
            **changes,
        )
    )


def rows_of(stage: Stage, count: int, seed: int) -> Tensor:
    return torch.randn(count, stage.width, generator=torch.Generator().manual_seed(seed)).to(stage.dtype)


def contents(cache: SessionCache) -> Tensor:
    """Every valid key and value, and the state of layers that keep one, layer by layer, flat."""
    parts = []
    for layer in cache.span:
        parts.append(cache.layer(layer)[:, 0, :, : cache.position])
        if layer in cache._recurrent:
            state = cache._states._at(cache.position)
            assert state is not None
            parts += state.layers[cache._recurrent[layer]]
    return torch.cat([part.flatten() for part in parts])


class Story:
    """One session: a prompt in chunks, then decode rows; with what an undisturbed run of it gives."""

    def __init__(self, stage: Stage, number: int) -> None:
        self.prompt = [rows_of(stage, count, 100 * number + i) for i, count in enumerate((1 + 29 * number, 5))]
        self.rows = rows_of(stage, STEPS, 1000 + number)
        cache = self.open(stage)
        self.expected = torch.cat([stage.decode([(cache, row)])[0] for row in self.rows.split(1)])
        self.cache = contents(cache)

    def open(self, stage: Stage, max_rows: int = 200, span: LayerSpan | None = None) -> SessionCache:
        cache = stage.open(max_rows, span)
        for chunk in self.prompt:
            stage.chunk(cache, chunk)
        return cache

    def check(self, rows: Tensor, cache: SessionCache) -> None:
        assert torch.equal(rows, self.expected)
        assert torch.equal(contents(cache), self.cache)


@pytest.fixture(
    scope="module", params=[(p, w) for p in PRECISIONS for w in (*WIDTHS, *EXACT)], ids=lambda p: f"{p[0]}-{p[1]}"
)
def stage(request: pytest.FixtureRequest) -> Stage:
    precision, which = request.param
    if isinstance(which, str):
        spec = ModelSpec.from_config(CONFIGS[which])
    else:
        biased = which[0] == 100
        spec = spec_of(which, attention_bias=biased, mlp_bias=biased)
    return Stage.random(spec, LayerSpan(0, LAYERS), precision, seed=3)


@pytest.fixture(scope="module")
def stories(stage: Stage) -> list[Story]:
    return [Story(stage, number) for number in range(5)]


def test_batched_with_random_joins_and_leaves_as_alone(stage: Stage, stories: list[Story]) -> None:
    rng = random.Random(7)
    caches = [story.open(stage, max_rows=rng.choice((180, 900))) for story in stories]
    taken = [0] * len(stories)
    outputs: list[list[Tensor]] = [[] for _ in stories]
    while any(count < STEPS for count in taken):
        live = [i for i in range(len(stories)) if taken[i] < STEPS]
        rng.shuffle(live)
        live = live[: rng.randint(1, len(live))]
        counts = [min(rng.choice((1, 1, 1, 4)), STEPS - taken[i]) for i in live]
        work = [
            (caches[i], stories[i].rows[taken[i] : taken[i] + count]) for i, count in zip(live, counts, strict=True)
        ]
        for i, count, rows in zip(live, counts, stage.decode(work), strict=True):
            outputs[i].append(rows)
            taken[i] += count
    for story, rows, cache in zip(stories, outputs, caches, strict=True):
        story.check(torch.cat(rows), cache)


def test_bulk_replay_as_step_by_step(stage: Stage, stories: list[Story]) -> None:
    for story in stories:
        cache = story.open(stage)
        story.check(stage.decode([(cache, story.rows)])[0], cache)


def test_sixty_four_rows_of_several_sessions_as_alone(stage: Stage, stories: list[Story]) -> None:
    caches = [story.open(stage) for story in stories]
    outputs = stage.decode([(cache, story.rows) for cache, story in zip(caches, stories, strict=True)])
    for story, rows, cache in zip(stories, outputs, caches, strict=True):
        story.check(rows, cache)


def test_rejected_speculation_leaves_no_trace(stage: Stage, stories: list[Story]) -> None:
    story = stories[1]
    cache = story.open(stage)
    outputs = []
    for row in story.rows.split(1):
        position = cache.position
        stage.decode([(cache, torch.cat((row, rows_of(stage, 7, position))))])
        cache.rollback(position)
        outputs.append(stage.decode([(cache, row)])[0])
    story.check(torch.cat(outputs), cache)


def test_neither_capacity_nor_garbage_beyond_the_rows_matters(stage: Stage, stories: list[Story]) -> None:
    story = stories[2]
    cache = story.open(stage, max_rows=1500)
    cache.grow(1300)
    for layer in cache.span:
        cache.layer(layer)[:, :, :, cache.position :] = torch.nan
    outputs = [stage.decode([(cache, row)])[0] for row in story.rows.split(1)]
    story.check(torch.cat(outputs), cache)


def test_a_neighbour_of_nothing_but_nan_does_no_harm(stage: Stage, stories: list[Story]) -> None:
    story = stories[3]
    cache, bad = story.open(stage), stage.open(64)
    poison = torch.full((1, stage.width), torch.nan, dtype=stage.dtype)
    outputs = [stage.decode([(bad, poison), (cache, row)])[1] for row in story.rows.split(1)]
    story.check(torch.cat(outputs), cache)


BROAD: dict[str, dict[str, Any]] = {  # widths as real models have them, at which kernels may divide rows among threads
    "qwen3": {"num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128},
    "olmo2": {"hidden_size": 2048, "num_attention_heads": 32, "num_key_value_heads": 32},
    "gemma2": {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256},
    "qwen3-next": {
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 32,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
    },
    "bloom": {"n_embed": 1024, "num_attention_heads": 16},
    "qwen3-moe": {"num_experts": 128, "num_experts_per_tok": 8, "hidden_size": 256},
    "gemma4-experts": {
        "layer_types": ["full_attention"] * 3,
        "global_head_dim": 512,
        "num_experts": 128,
        "top_k_experts": 8,
        "hidden_size": 256,
        "hidden_size_per_layer_input": 256,
        "vocab_size_per_layer_input": 288,
    },
    "gpt-oss": {"num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 64, "intermediate_size": 2880},
}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", BROAD)
def test_many_rows_at_broad_widths_as_each_alone(precision: str, name: str) -> None:
    spec = ModelSpec.from_config({**CONFIGS[name], **BROAD[name]})
    broad = Stage.random(spec, LayerSpan(0, 1), precision, seed=3)
    together, alone = broad.open(100), broad.open(100)
    rows = rows_of(broad, 64, seed=1)
    outputs = [broad.decode([(alone, row)])[0] for row in rows.split(1)]
    assert torch.equal(broad.decode([(together, rows)])[0], torch.cat(outputs))
    assert torch.equal(contents(together), contents(alone))


@pytest.fixture(params=range(1, LAYERS))
def cut(request: pytest.FixtureRequest, stage: Stage) -> int:
    if request.param not in cuts_of(stage.spec):
        pytest.skip("this model cannot be cut there")
    return int(request.param)


def split_at(stage: Stage, cut: int) -> list[Stage]:
    """The same random weights would differ by their order of drawing, so the layers themselves are shared out."""
    parts = []
    for span in (LayerSpan(0, cut), LayerSpan(cut, LAYERS)):
        part = Stage.random(stage.spec, span, stage.precision, seed=3)
        part.decoder.layers = [stage.decoder.layers[layer] for layer in span]
        parts.append(part)
    return parts


def test_split_stages_as_one(stage: Stage, stories: list[Story], cut: int) -> None:
    story, parts = stories[1], split_at(stage, cut)
    caches = [part.open(200) for part in parts]
    for chunk in story.prompt:
        for part, cache in zip(parts, caches, strict=True):
            chunk = part.chunk(cache, chunk)
    outputs = []
    for row in story.rows.split(1):
        for part, cache in zip(parts, caches, strict=True):
            (row,) = part.decode([(cache, row)])
        outputs.append(row)
    assert torch.equal(torch.cat(outputs), story.expected)
    assert torch.equal(torch.cat([contents(cache) for cache in caches]), story.cache)


def test_sessions_over_part_of_the_layers_share_batches(stage: Stage, stories: list[Story], cut: int) -> None:
    story = stories[1]
    whole, first, last = story.open(stage), stage.open(200, LayerSpan(0, cut)), stage.open(200, LayerSpan(cut, LAYERS))
    for chunk in story.prompt:
        stage.chunk(last, stage.chunk(first, chunk))
    between: list[Tensor] = []
    ends: list[Tensor] = []
    ahead = stories[1].rows.split(1)
    for step in range(STEPS + 1):  # the second half of a row's way is computed beside the first half of the next
        work = [(whole, ahead[step]), (first, ahead[step])] if step < STEPS else []
        work += [(last, between[-1])] if step else []
        outputs = stage.decode(work)
        if step < STEPS:
            between.append(outputs[1])
        if step:
            ends.append(outputs[-1])
    assert torch.equal(torch.cat(ends), story.expected)
    assert torch.equal(torch.cat((contents(first), contents(last))), story.cache)
    assert torch.equal(contents(whole), story.cache)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("shape", WIDTHS, ids=str)
def test_bf16_decode_rows_do_not_depend_on_the_thread_count(shape: Shape, threads: None) -> None:
    # fp32 attention does depend on it, so the thread count is part of the numerics class
    stage = Stage.random(spec_of(shape), LayerSpan(0, LAYERS), "bf16")
    outputs = []
    for count in (1, 3, 4):
        torch.set_num_threads(count)
        cache = stage.open(200)
        outputs.append(stage.decode([(cache, rows_of(stage, 100, seed=5))])[0])
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("inner", [128, 384, 8192, 28672])
def test_an_activation_does_not_depend_on_the_row_s_place(precision: str, inner: int, threads: None) -> None:
    exactly = PRECISIONS[precision]
    rows = (3 * torch.randn(16, 2 * inner)).to(exactly.dtype)
    alone = torch.cat([gated(row) for row in rows.split(1)])
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        for size in (2, 3, 16):
            assert torch.equal(torch.cat([gated(part) for part in rows.split(size)]), alone)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("width", [16, 48, 100, 344, 2048, 8192])
def test_norm_and_rotation_do_not_depend_on_the_number_of_rows(precision: str, width: int) -> None:
    dtype = PRECISIONS[precision].dtype
    x, weight = torch.randn(64, width).to(dtype), torch.rand(width).to(dtype)

    def norm(rows: Tensor) -> Tensor:
        return torch.nn.functional.rms_norm(rows, (width,), weight, 1e-5)

    table = RopeTable(spec_of(WIDTHS[0]).ropes[0], width // 2, torch.device("cpu"))
    heads = x.view(64, 2, width // 2)
    cos, sin = table.slice(0, 64)
    whole_norm, whole_rotation = norm(x), rotate(heads, cos, sin)
    for size in (1, 3, 16):
        for start in range(0, 64, size):
            part = slice(start, start + size)
            assert torch.equal(norm(x[part]), whole_norm[part])
            cos, sin = table.gather(list(range(64))[part])
            assert torch.equal(rotate(heads[part], cos, sin), whole_rotation[part])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_logits_of_a_row_alone_and_among_others(precision: str) -> None:
    specs = [spec_of(shape) for shape in WIDTHS[:2]]
    vocab = {"vocab_size": 299, "vocab_size_per_layer_input": 299}
    for spec in specs + [ModelSpec.from_config({**CONFIGS[name], **vocab}) for name in EXACT]:
        head = Head.random(spec, precision)
        rows = torch.randn(37, spec.width).to(PRECISIONS[precision].dtype)
        together = head.logits(rows)
        assert together.dtype == torch.float32
        assert torch.equal(together, torch.cat([head.logits(row) for row in rows.split(1)]))
