"""Caches of bytes: what a row leaves in one, half the memory, and the same bits however it is grown, trimmed, copied or read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.families import CONFIGS
from support.families_encoders import CONFIGS as ENCODERS
from torch import Tensor

from chaos.computers import restored
from swarm.engine import Stage, footprint
from swarm.engine.caches.kv_cache import TILE_ROWS, SessionCache
from swarm.errors import UsageFault
from swarm.kernels import library
from swarm.model.spec import ModelSpec

SPECS = {name: ModelSpec.from_config(CONFIGS[name]) for name in ("qwen3", "gpt-oss", "gemma2", "qwen3-5-odd")}
ROWS = 100


def rows_of(stage: Stage, count: int = ROWS) -> Tensor:
    """Of whole numbers, since normal draws differ in their last digit between machines."""
    drawn = np.random.default_rng(5).integers(-(1 << 15), 1 << 15, (count, stage.width)).astype(np.float32) / 16384
    return torch.from_numpy(drawn).to(stage.dtype)


def stage_of(name: str, precision: str) -> Stage:
    return Stage.random(SPECS[name], SPECS[name].span, precision, numerics="portable")


def held(cache: SessionCache, layer: int, head_dim: int) -> tuple[Tensor, Tensor]:
    """Keys and values of a layer [2, kv_heads, positions, head_dim]; their steps [2, kv_heads, positions], if there are any."""
    buffer = cache.layer(layer)[:, 0]
    tiles = buffer.flatten(2).view(*buffer.shape[:2], -1, TILE_ROWS * buffer.shape[3])
    numbers, steps = tiles[..., : TILE_ROWS * head_dim], tiles[..., TILE_ROWS * head_dim :].contiguous()
    keys = numbers[0].unflatten(-1, (head_dim, TILE_ROWS)).transpose(-1, -2)
    both = torch.stack((keys, numbers[1].unflatten(-1, (TILE_ROWS, head_dim)))).flatten(2, 3)
    return both[:, :, : cache.position], steps.view(torch.float32).flatten(2)[:, :, : cache.position]


def test_a_row_leaves_what_the_definition_says() -> None:
    """In the first layer, whose keys and values are those that a cache of fp32 holds whole."""
    exactly, bytes_ = stage_of("qwen3", "fp32"), stage_of("qwen3", "fp32+cache-int8")
    head_dim, caches = SPECS["qwen3"].kinds[0].head_dim, []
    rows = rows_of(exactly)
    rows[3], rows[4], rows[5, 0], rows[6] = 0, rows[4] * 1e-30, torch.nan, rows[6] * 1e30
    for stage in (exactly, bytes_):
        caches.append(stage.open(ROWS))
        stage.chunk(caches[-1], rows)
    whole, _ = held(caches[0], 0, head_dim)
    numbers, steps = held(caches[1], 0, head_dim)
    largest = whole.abs().amax(3)
    found, tiny = largest.isfinite(), largest < 2.0**-100
    expected = torch.where(tiny, torch.zeros(()), largest * torch.tensor(1 / 127, dtype=torch.float32))
    assert torch.equal(steps[found], expected[found])
    assert steps[~found].isnan().all()
    assert (~found).any()
    rounded = (whole * (127 / largest)[..., None]).round()
    rounded = torch.where((found & ~tiny)[..., None], rounded, torch.zeros(()))
    assert torch.equal(numbers.float(), rounded)


def test_every_path_leaves_the_same_bytes() -> None:
    kernels, seen = library(), []
    assert kernels is not None
    stage = stage_of("qwen3", "fp32+cache-int8")
    with restored():
        for path in kernels.paths():
            kernels.choose(path)
            cache = stage.open(ROWS)
            stage.chunk(cache, rows_of(stage))
            seen.append([held(cache, layer, SPECS["qwen3"].kinds[layer].head_dim) for layer in stage.span])
    for other in seen[1:]:
        for (numbers, steps), (first_numbers, first_steps) in zip(other, seen[0], strict=True):
            assert torch.equal(numbers, first_numbers)
            assert torch.equal(steps, first_steps)


@pytest.mark.parametrize("name", SPECS)
def test_growing_trimming_and_copying_change_no_bit(name: str) -> None:
    stage = stage_of(name, "bf16+cache-int8")
    rows = rows_of(stage)
    whole = stage.open(ROWS)
    expected = stage.chunk(whole, rows)
    grown = stage.open(ROWS)
    begun = stage.chunk(grown, rows[:41])
    begun_again = grown.beginning(41)
    other = stage.open(ROWS)
    if begun_again:
        stage.copy(other, grown, begun_again, stage.span)
        assert torch.equal(stage.chunk(other, rows[begun_again:]), expected[begun_again:])
    late = stage.decode([(grown, rows[41:70])])[0]
    assert torch.equal(torch.cat((begun, late)), expected[:70])
    grown.rollback(41)
    stage.decode([(grown, rows[:1])])  # of which nothing may stay
    grown.rollback(41)
    assert torch.equal(stage.chunk(grown, rows[41:]), expected[41:])


def test_long_contexts_are_shared_among_threads() -> None:
    spec, kernels, count = replace(SPECS["gpt-oss"], max_positions=2048), library(), 1200
    assert kernels is not None
    stage = Stage.random(spec, spec.span, "bf16+cache-int8", numerics="portable")
    rows, cache = rows_of(stage, count), stage.open(count)
    for part in torch.split(rows[:-1], 128):
        stage.chunk(cache, part)
    seen = []
    with restored():
        for threads in (1, 3):
            kernels.set_threads(threads)
            seen.append(stage.decode([(cache, rows[-1:])])[0])
            cache.rollback(count - 1)
    assert torch.equal(*seen)


@pytest.mark.parametrize("name", SPECS)
def test_it_takes_half_the_memory(name: str) -> None:
    """Of heads of 64 numbers or more; each has a step of four bytes besides. States stay as they are."""
    spec = SPECS[name]
    bytes_of = {
        precision: footprint(spec, spec.span, precision, 64) - footprint(spec, spec.span, precision)
        for precision in ("bf16", "bf16+cache-int8")
    }
    keys = sum(2 * 64 * kv_heads * head_dim for kv_heads, head_dim in (kind.row_shape for kind in spec.kinds))
    steps = sum(2 * 64 * 4 * kind.row_shape[0] for kind in spec.kinds)
    assert bytes_of["bf16"] - bytes_of["bf16+cache-int8"] == keys - steps
    stage = stage_of(name, "bf16+cache-int8")
    assert stage.pool.needed(64, spec.span) == bytes_of["bf16+cache-int8"]


def test_who_keeps_no_keys_refuses_a_cache_by_name() -> None:
    spec = ModelSpec.from_config(next(iter(ENCODERS.values())))
    with pytest.raises(UsageFault, match=r"bf16.cache-int8: .* keeps no keys and values"):
        Stage.random(spec, spec.span, "bf16+cache-int8", numerics="portable")


@pytest.mark.parametrize("precision", ["bf16+cache-int8", "fp32+cache-bf16"])
def test_natively_it_is_refused(precision: str) -> None:
    with pytest.raises(UsageFault, match=r"--precision \w+.cache-\w+: only --numerics portable"):
        Stage.random(SPECS["qwen3"], SPECS["qwen3"].span, precision)
