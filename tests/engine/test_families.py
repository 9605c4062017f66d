"""Every family against transformers: logits, greedy tokens, cuts at every boundary, and what a config may omit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.families import CONFIGS
from support.families_encoders import CONFIGS as ENCODERS
from support.oracles import TINY, check, difference, make_oracle_model, oracle_of

from swarm.checkpoint.config import read_spec
from swarm.engine import PRECISIONS, Head, Stage, footprint
from swarm.model.families import FAMILIES
from swarm.model.spec import ModelSpec

STATED = {*TINY, "architectures", "model_type"}  # sizes, which every config states


@pytest.fixture(scope="module", params=CONFIGS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("family") / request.param
    return make_oracle_model(directory, CONFIGS[request.param], seed=list(CONFIGS).index(request.param))


def test_logits_and_greedy_tokens_as_the_oracle_s(model: Path) -> None:
    prompt = torch.randint(0, 256, (150,), generator=torch.Generator().manual_seed(1)).tolist()
    check(model, prompt, steps=200, tolerance=1e-5)


def test_bf16_stays_near_the_oracle(model: Path) -> None:
    stage, head = Stage.load(model), Head.load(model)
    prompt = torch.randint(0, 256, (60,), generator=torch.Generator().manual_seed(2)).tolist()
    with torch.inference_mode():
        theirs = oracle_of(model)(torch.tensor([prompt])).logits[0]
    ours = head.logits(stage.chunk(stage.open(60), head.embed(prompt, 0)))
    # Where two experts have nearly the same share, rounding may choose the other
    rows = slice(None) if stage.spec.family.router is None else (ours - theirs).abs().amax(-1).argsort()[:40]
    assert difference(ours[rows], theirs[rows]) < 0.05


def test_both_spellings_and_what_a_config_may_omit(model: Path) -> None:
    from transformers import AutoConfig

    written: dict[str, Any] = json.loads((model / "newer.json").read_text())
    assert ModelSpec.from_config(written) == read_spec(model)
    defaults = type(AutoConfig.from_pretrained(model))().to_dict()
    for config in (written, json.loads((model / "config.json").read_text())):
        short = {k: v for k, v in config.items() if k in STATED or k not in defaults or v != defaults[k]}
        assert ModelSpec.from_config(short) == read_spec(model)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", [name for name in CONFIGS if ModelSpec.from_config(CONFIGS[name]).hidden % 64 == 0])
def test_a_footprint_is_what_loading_takes(precision: str, name: str) -> None:
    spec = ModelSpec.from_config(CONFIGS[name])
    needed = footprint(spec, spec.span, precision)
    stage = Stage.random(spec, spec.span, precision)
    tables = (
        0 if stage.decoder.tokens is None else stage.decoder.tokens.table_bytes
    )  # of a checkpoint they stay in files
    assert needed <= stage.weight_bytes - tables <= 1.2 * needed


NESTED = {  # config, and architecture, type and prefix of the model that it is the text model of
    "gemma3-odd": ("Gemma3ForConditionalGeneration", "gemma3", "", "language_model."),
    "gemma4-tokens-odd": ("Gemma4ForConditionalGeneration", "gemma4", "model.", "model.language_model."),
    "qwen3-5": ("Qwen3_5ForConditionalGeneration", "qwen3_5", "model.", "model.language_model."),
    "qwen3-5-moe": ("Qwen3_5MoeForConditionalGeneration", "qwen3_5_moe", "model.", "model.language_model."),
}


@pytest.mark.parametrize("name", NESTED)
def test_a_text_model_nested_in_another(tmp_path: Path, name: str) -> None:
    config, (architecture, model_type, before, after) = CONFIGS[name], NESTED[name]
    plain = make_oracle_model(tmp_path / "plain", config)
    nested = tmp_path / "nested"
    nested.mkdir()
    tensors = load_file(plain / "model.safetensors")
    renamed = {(after + key[len(before) :] if key.startswith(before) else key): each for key, each in tensors.items()}
    save_file(renamed, nested / "model.safetensors")
    text = {key: value for key, value in config.items() if key not in ("architectures", "eos_token_id")}
    outer = {"architectures": [architecture], "model_type": model_type, "eos_token_id": [1, 257]}
    (nested / "config.json").write_text(json.dumps({**outer, "text_config": text}))
    assert read_spec(nested).eos_ids == (1, 257)
    logits = []
    for directory in (plain, nested):
        stage, head = Stage.load(directory), Head.load(directory)
        logits.append(head.logits(stage.chunk(stage.open(50), head.embed(range(50), 0))))
    assert torch.equal(*logits)


def test_every_family_is_tested() -> None:
    tested = {"LlamaForCausalLM", *(architecture for architecture, *_ in NESTED.values())}
    tested |= {each for config in (*CONFIGS.values(), *ENCODERS.values()) for each in config["architectures"]}
    assert {FAMILIES[each].architecture for each in tested} == {family.architecture for family in FAMILIES.values()}
