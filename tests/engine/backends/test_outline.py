"""What a node is told before anything is loaded is what loading then takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.library import CONFIGS, make_library_model
from support.oracles import TINY

from swarm.engine.backends.library.model import LibraryModel
from swarm.engine.caches.kv_cache import PAGE_ROWS
from swarm.span import LayerSpan


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_sizes_are_those_of_what_is_loaded(tmp_path: Path, name: str, precision: str) -> None:
    model = LibraryModel.open(make_library_model(tmp_path, name))
    span = LayerSpan(1, 3)
    stage, head = model.load_stage(span, precision), model.load_head(precision)
    assert stage.weight_bytes == model.footprint(span, precision)
    cache = stage.open(7)
    stage.chunk(cache, torch.ones(7, stage.hidden, dtype=stage.dtype))
    held = [cache.layer(layer) for layer in span]
    kept = sum(layer.keys.nbytes + layer.values.nbytes for layer in held)
    row_bytes = model.spec.row_bytes(precision)
    assert kept == 7 * sum(row_bytes[layer] for layer in span)
    with_cache = model.footprint(span, precision, cache_rows=7)
    assert with_cache - model.footprint(span, precision) == stage.pool.reserved == PAGE_ROWS * kept // 7
    with_head = model.footprint(span, precision, with_head=True) - model.footprint(span, precision)
    assert head.weight_bytes == with_head
    assert stage.numerics.endswith(f"/{head.numerics.rpartition('/')[2]}")
    assert "/transformers5." in stage.numerics


def test_a_large_model_takes_no_memory_to_be_known(tmp_path: Path) -> None:
    import json

    large = {**TINY, "model_type": "stablelm", "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 40}
    heads = {"num_attention_heads": 64, "num_key_value_heads": 8, "vocab_size": 128256}
    (tmp_path / "config.json").write_text(json.dumps({**large, **heads}))
    model = LibraryModel.open(tmp_path)
    assert model.footprint(model.spec.span, "bf16") == pytest.approx(40 * 1.71e9, rel=0.02)
    assert model.spec.row_bytes("bf16")[0] == 2 * 8 * 128 * 2
