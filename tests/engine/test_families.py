"""Every family against transformers: logits, greedy tokens, cuts at every boundary, and what a config may omit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support.families import CONFIGS
from support.oracles import TINY, check, difference, make_oracle_model, oracle_of

from swarm.engine import Head, ModelSpec, Stage, read_spec
from swarm.engine.families import FAMILIES

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
    assert difference(head.logits(stage.chunk(stage.open(60), head.embed(prompt))), theirs) < 0.05


def test_both_spellings_and_what_a_config_may_omit(model: Path) -> None:
    from transformers import AutoConfig

    written: dict[str, Any] = json.loads((model / "newer.json").read_text())
    assert ModelSpec.from_config(written) == read_spec(model)
    defaults = type(AutoConfig.from_pretrained(model))().to_dict()
    for config in (written, json.loads((model / "config.json").read_text())):
        short = {k: v for k, v in config.items() if k in STATED or k not in defaults or v != defaults[k]}
        assert ModelSpec.from_config(short) == read_spec(model)


def test_every_family_is_tested() -> None:
    assert {each for config in CONFIGS.values() for each in config["architectures"]} | {"LlamaForCausalLM"} == set(
        FAMILIES
    )
