"""Encoders against transformers: rows that see each other both ways, cuts at every boundary, names as checkpoints have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.embedders import oracle_rows
from support.families_encoders import CONFIGS, STATED, make_encoder
from support.oracles import difference
from torch import Tensor

from swarm.checkpoint.config import read_spec
from swarm.engine import PRECISIONS, Head, Stage, footprint
from swarm.engine.caches.footprint import head_bytes
from swarm.errors import ModelFault, UsageFault
from swarm.model.spec import ModelSpec
from swarm.span import LayerSpan

LENGTHS = (1, 2, 17, 131, 260)


@pytest.fixture(scope="module", params=CONFIGS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_encoder(tmp_path_factory.mktemp("encoder") / request.param, CONFIGS[request.param])


def ids_of(length: int) -> list[int]:
    """Any ids, those of padding among them."""
    return torch.randint(0, 288, (length,), generator=torch.Generator().manual_seed(length)).tolist()


def features(stages: list[Stage], head: Head, ids: list[int]) -> Tensor:
    rows = head.embed(ids, 0)
    for stage in stages:
        rows = stage.chunk(stage.open(len(ids)), rows)
    return head.features(rows)


def test_rows_as_the_oracle_s_however_the_layers_are_cut(model: Path) -> None:
    head, whole = Head.load(model, precision="fp32"), Stage.load(model, precision="fp32")
    found = {length: features([whole], head, ids_of(length)) for length in LENGTHS}
    for length in LENGTHS[-2:]:
        assert difference(found[length], oracle_rows(model, ids_of(length))) < 1e-5
    for cut in range(1, whole.spec.layer_count):
        spans = LayerSpan(0, cut), LayerSpan(cut, whole.spec.layer_count)
        parts = [Stage.load(model, span, precision="fp32") for span in spans]
        for length, rows in found.items():
            assert torch.equal(features(parts, head, ids_of(length)), rows)


def test_windows_reach_across_the_blocks_in_which_rows_ask(tmp_path: Path) -> None:
    directory, ids = make_encoder(tmp_path, CONFIGS["modernbert-odd"]), ids_of(1100)
    rows = features([Stage.load(directory, precision="fp32")], Head.load(directory, precision="fp32"), ids)
    assert difference(rows, oracle_rows(directory, ids)) < 1e-5


def test_bf16_stays_near_the_oracle(model: Path) -> None:
    ids = ids_of(60)
    assert difference(features([Stage.load(model)], Head.load(model), ids), oracle_rows(model, ids)) < 0.05


def test_what_a_config_may_omit(model: Path) -> None:
    from transformers import AutoConfig

    defaults = type(AutoConfig.from_pretrained(model))().to_dict()
    for config in (CONFIGS[model.name], json.loads((model / "newer.json").read_text())):
        short = {k: v for k, v in config.items() if k in STATED or k not in defaults or v != defaults[k]}
        assert ModelSpec.from_config(config) == ModelSpec.from_config(short) == read_spec(model)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["bert", "mpnet", "modernbert"])
def test_a_footprint_is_what_loading_takes_and_a_cache_takes_nothing(precision: str, name: str) -> None:
    spec = ModelSpec.from_config(CONFIGS[name])
    needed = footprint(spec, spec.span, precision, cache_rows=300)
    stage = Stage.random(spec, spec.span, precision)
    assert needed <= stage.weight_bytes <= 1.2 * needed
    stage.open(spec.max_positions)
    assert stage.pool.reserved == stage.pool.budget == 0
    assert head_bytes(spec, precision) < 1000
    assert Head.random(spec, precision).logits_bytes == 0


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", CONFIGS)
def test_company_changes_no_bit(precision: str, name: str) -> None:
    spec = ModelSpec.from_config(CONFIGS[name])
    stage = Stage.random(spec, spec.span, precision)
    texts = [torch.randn(length, spec.hidden).to(stage.dtype) for length in LENGTHS]
    alone = [stage.chunk(stage.open(len(text)), text) for text in texts]
    caches = [stage.open(spec.max_positions) for _ in texts]
    for text, cache, expected in reversed(list(zip(texts, caches, alone, strict=True))):
        assert torch.equal(stage.chunk(cache, text), expected)
        cache.rollback(0)
        assert torch.equal(stage.chunk(cache, text.clone()), expected)


def test_a_text_goes_through_at_once() -> None:
    spec = ModelSpec.from_config(CONFIGS["bert"])
    stage = Stage.random(spec, spec.span, "fp32")
    cache = stage.open(300)
    rows = torch.randn(200, spec.hidden)
    stage.chunk(cache, rows)
    with pytest.raises(UsageFault, match="at once: rows 200 and on come too late"):
        stage.chunk(cache, rows[:1])
    cache.rollback(0)
    with pytest.raises(UsageFault, match="generates none"):
        stage.decode([(cache, rows[:1])])
    with pytest.raises(UsageFault, match="300"):
        stage.open(spec.max_positions + 1)
    head = Head.random(spec, "fp32")
    with pytest.raises(UsageFault, match="no tokens"):
        head.logits(rows)


def test_names_with_and_without_a_prefix_and_as_they_were_once(tmp_path: Path) -> None:
    expected = None
    for number, (prefix, norms) in enumerate([("", False), ("bert.", False), ("bert.", True), ("", True)]):
        directory = make_encoder(tmp_path / str(number), CONFIGS["bert"])
        tensors = load_file(directory / "model.safetensors")
        tensors["embeddings.position_ids"] = torch.arange(300)[None]  # as many hold them, and nobody reads them
        named = {prefix + (_older(name) if norms else name): tensor for name, tensor in tensors.items()}
        save_file(named, directory / "model.safetensors")
        rows = features([Stage.load(directory)], Head.load(directory), ids_of(20))
        assert expected is None or torch.equal(rows, expected)
        expected = rows


def _older(name: str) -> str:
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type: 'relative_key' is not supp"),
        ("bert", {"is_decoder": True}, "is_decoder: True is not supported; only False is"),
        ("roberta", {"max_position_embeddings": 2}, "max_position_embeddings: 2 leave none after pad_token_id 1"),
        ("roberta", {"pad_token_id": 288}, "pad_token_id: 288 is no whole number from 0 to 287"),
    ],
)
def test_what_cannot_be_honoured_is_named(name: str, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelFault, match=said):
        ModelSpec.from_config({**CONFIGS[name], **changes})
