"""transformers is the oracle: the same checkpoint, the same logits, the same greedy tokens, however the layers are cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.models import make_model
from support.oracles import check, difference, oracle_of

from swarm.engine import Head, Stage

PROMPT = 150  # tokens: more than one chunk
STEPS = 200
LLAMA3: dict[str, Any] = {
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "one-kv-head": {"num_key_value_heads": 1},
    "no-grouping": {"num_key_value_heads": 4},
    "wide-heads": {"head_dim": 40},
    "narrow-heads": {"hidden_size": 96, "num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 10},
    "odd-widths": {"hidden_size": 100, "intermediate_size": 344, "num_attention_heads": 5, "num_key_value_heads": 5},
    "untied": {"tie_word_embeddings": False},
    "attention-bias": {"attention_bias": True},
    "all-biases": {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": False},
    "llama3": {"rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
    "llama3-old-spelling": {"rope_scaling": {"type": "llama3", "rope_type": "llama3", **LLAMA3}},
    "rope-parameters": {
        "rope_theta": None,
        "rope_parameters": {"rope_type": "llama3", "rope_theta": 100000.0, **LLAMA3},
    },
    "deep": {"num_hidden_layers": 9, "hidden_size": 48, "intermediate_size": 100},
    "sharded": {"shards": 3, "rms_norm_eps": 1e-3},
}


@pytest.fixture(scope="module", params=VARIANTS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    seed = list(VARIANTS).index(request.param)
    return make_model(tmp_path_factory.mktemp("model") / request.param, seed=seed, **VARIANTS[request.param])


def test_logits_and_greedy_tokens_as_the_oracle_s(model: Path) -> None:
    prompt = torch.randint(0, 256, (PROMPT,), generator=torch.Generator().manual_seed(1)).tolist()
    check(model, prompt, STEPS, tolerance=1e-5)


def test_bf16_stays_near_the_oracle(model: Path) -> None:
    oracle = oracle_of(model)
    stage, head = Stage.load(model), Head.load(model)
    prompt = torch.randint(0, 256, (60,), generator=torch.Generator().manual_seed(2)).tolist()
    with torch.inference_mode():
        theirs = oracle(torch.tensor([prompt])).logits[0]
    ours = head.logits(stage.chunk(stage.open(60), head.embed(prompt, 0)))
    assert difference(ours, theirs) < 0.05


def test_the_demo_model_as_the_oracle_s() -> None:
    import swarm

    directory = Path(swarm.__file__).parent / "demo" / "model"
    check(directory, list(range(300, 380)), 60, tolerance=1e-5)
