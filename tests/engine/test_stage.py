"""The edges of stage, head, cache and plan: what is reserved, what is refused and in which words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.models import make_config, make_model

from swarm.engine import PRECISIONS, Head, Stage, footprint
from swarm.engine.caches.kv_cache import PAGE_ROWS
from swarm.errors import LocalFault, Overloaded, UsageFault
from swarm.model.spec import ModelSpec
from swarm.span import LayerSpan
from swarm.wire.tensors import Tensor as WireTensor

SPEC = ModelSpec.from_config(make_config())
ROW = 2 * 2 * 16 * 2  # bytes of one bf16 row in one layer: keys and values of two heads


@pytest.fixture
def stage() -> Stage:
    return Stage.random(SPEC, LayerSpan(0, 4), "bf16", cache_bytes=10 * PAGE_ROWS * 4 * ROW)


def rows(count: int) -> torch.Tensor:
    return torch.randn(count, SPEC.hidden).bfloat16()


def test_a_cache_is_reserved_when_it_is_opened(stage: Stage) -> None:
    pool = stage.pool
    assert pool.tokens_free == 10 * PAGE_ROWS
    first = stage.open(PAGE_ROWS + 1)
    assert pool.tokens_free == 8 * PAGE_ROWS
    part = stage.open(PAGE_ROWS, LayerSpan(1, 3))
    assert pool.tokens_free == 7 * PAGE_ROWS
    first.close()
    first.close()
    part.close()
    assert (pool.tokens_free, pool.reserved, pool.sessions) == (10 * PAGE_ROWS, 0, 0)


def test_what_does_not_fit_is_refused_with_numbers(stage: Stage) -> None:
    stage.open(6 * PAGE_ROWS)
    with pytest.raises(Overloaded, match=rf"320 tokens.*{5 * PAGE_ROWS * 4 * ROW} bytes.*256 tokens, 1 sessions"):
        stage.open(5 * PAGE_ROWS)
    stage.open(4 * PAGE_ROWS)
    assert stage.pool.tokens_free == 0


@pytest.mark.parametrize("max_rows", [0, -1, SPEC.max_positions + 1])
def test_sessions_that_can_never_be_had(stage: Stage, max_rows: int) -> None:
    with pytest.raises(UsageFault, match=f"{max_rows} tokens.*{SPEC.max_positions}"):
        stage.open(max_rows)


def test_layers_that_the_stage_does_not_hold() -> None:
    stage = Stage.random(SPEC, LayerSpan(1, 3))
    with pytest.raises(UsageFault, match=r"layers 0-1 .* layers 1-2"):
        stage.open(10, LayerSpan(0, 2))


def test_memory_grows_in_pages_and_never_beyond_the_reservation(stage: Stage) -> None:
    cache = stage.open(5 * PAGE_ROWS - 3)
    capacities = []
    for _ in range(5 * PAGE_ROWS - 3):
        stage.decode([(cache, rows(1))])
        capacities.append(cache.layer(0).shape[3])
    assert sorted(set(capacities)) == [PAGE_ROWS, 2 * PAGE_ROWS, 4 * PAGE_ROWS, 5 * PAGE_ROWS]
    with pytest.raises(UsageFault, match="opened for 317 tokens; 318 do not fit"):
        stage.decode([(cache, rows(1))])
    assert cache.position == 5 * PAGE_ROWS - 3


def test_one_bad_session_stops_a_batch_before_anything_is_computed(stage: Stage) -> None:
    good, full = stage.open(10), stage.open(1)
    with pytest.raises(UsageFault):
        stage.decode([(good, rows(1)), (full, rows(2))])
    assert (good.position, full.position) == (0, 0)


def test_misuse_is_a_local_fault(stage: Stage) -> None:
    cache = stage.open(10)
    with pytest.raises(LocalFault, match="twice"):
        stage.decode([(cache, rows(1)), (cache, rows(1))])
    with pytest.raises(LocalFault, match="rolled back to 1"):
        cache.rollback(1)
    cache.close()
    with pytest.raises(LocalFault, match="closed"):
        stage.chunk(cache, rows(1))


def test_rows_of_another_shape_or_dtype(stage: Stage) -> None:
    cache = stage.open(500)
    for bad in (rows(1)[:, :5], rows(1)[0], rows(0), rows(1).float()):
        with pytest.raises(UsageFault, match="rows of"):
            stage.decode([(cache, bad)])
    with pytest.raises(UsageFault, match="129 rows: at most 128"):
        stage.chunk(cache, rows(129))


def wire(dtype: str, array: np.ndarray) -> WireTensor:
    return WireTensor(dtype, array.shape, array.reshape(-1).view(np.uint8).data)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_rows_survive_the_wire(precision: str) -> None:
    stage = Stage.random(SPEC, LayerSpan(0, 1), precision)
    given = torch.randn(3, SPEC.hidden).to(PRECISIONS[precision].dtype)
    tensor = stage.tensor(given)
    assert (tensor.dtype, tensor.shape, tensor.data.nbytes) == (precision, (3, SPEC.hidden), given.nbytes)
    read_only = WireTensor(tensor.dtype, tensor.shape, memoryview(bytes(tensor.data)))
    assert torch.equal(stage.rows(read_only), given)
    assert torch.equal(stage.rows(stage.tensor(given[1:2])), given[1:2])


def test_wire_tensors_that_are_no_rows(stage: Stage) -> None:
    for bad, named in (
        (wire("fp32", np.zeros((1, 64), np.float32)), r"fp32 \[1, 64\].*bf16 \[rows, 64\]"),
        (wire("bf16", np.zeros((1, 63), np.uint16)), r"bf16 \[1, 63\]"),
        (wire("bf16", np.zeros((64,), np.uint16)), r"bf16 \[64\]"),
        (wire("bf16", np.zeros((1, 1, 64), np.uint16)), r"bf16 \[1, 1, 64\]"),
    ):
        with pytest.raises(UsageFault, match=named):
            stage.rows(bad)


def test_ids_outside_the_vocabulary(tmp_path: Path) -> None:
    head = Head.load(make_model(tmp_path))
    assert head.embed([0, 287], 0).shape == (2, 64)
    for bad in ([-1], [1, 288]):
        with pytest.raises(UsageFault, match=rf"token id {bad[-1]} .* 288"):
            head.embed(bad, 0)
    with pytest.raises(UsageFault, match="no tokens"):
        head.embed([], 0)
    with pytest.raises(UsageFault, match=r"bf16 \[rows, 64\]"):
        head.logits(torch.zeros(1, 64))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("inner", [160, 192])
def test_a_footprint_is_what_loading_takes(precision: str, inner: int) -> None:
    spec = ModelSpec.from_config(make_config(intermediate_size=inner, attention_bias=True, mlp_bias=True))
    stage = Stage.random(spec, LayerSpan(0, 3), precision)
    needed = footprint(spec, LayerSpan(0, 3), precision)
    assert needed <= stage.weight_bytes <= 1.2 * needed
    one_page = footprint(spec, LayerSpan(0, 3), precision, cache_rows=1) - needed
    assert one_page == PAGE_ROWS * 3 * stage.pool.row_bytes(LayerSpan(0, 1))


def test_what_stands_in_the_repr(stage: Stage) -> None:
    cache = stage.open(100)
    stage.chunk(cache, rows(7))
    assert repr(cache) == "<SessionCache of layers 0-3: 7 of 100 rows>"
    cache.close()
    assert repr(cache).endswith(", closed>")
    assert repr(stage.pool) == f"<CachePool of layers 0-3: 0 sessions, 0 of {stage.pool.budget} bytes>"
    assert "LlamaForCausalLM layers 0-3: bf16/cpu" in repr(stage)


@pytest.mark.parametrize("numerics", ["native", "portable"])
def test_layers_that_another_stage_holds_are_not_read_again_and_compute_the_same(tmp_path: Path, numerics: str) -> None:
    model = make_model(tmp_path / "m", num_hidden_layers=4)
    first = Stage.load(model, LayerSpan(0, 3), "fp32", numerics=numerics)
    whole, shared = (
        Stage.load(model, LayerSpan(1, 4), "fp32", numerics=numerics, held=held) for held in (None, first.layers)
    )
    assert [shared.layers[layer] is first.layers.get(layer) for layer in shared.span] == [True, True, False]
    rows = torch.randn(5, whole.width)
    assert torch.equal(shared.chunk(shared.open(8), rows), whole.chunk(whole.open(8), rows))
