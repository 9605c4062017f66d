"""A head that the config calls the embedding, and that lies in the files all the same, with numbers of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.families import CONFIGS
from support.oracles import difference, make_oracle_model, oracle_of

from swarm.engine import Head, Stage

IDS = list(range(5, 25))


def with_head(directory: Path, name: str, own: bool) -> Path:
    make_oracle_model(directory, CONFIGS[name])
    config = json.loads((directory / "config.json").read_text()) | {"tie_word_embeddings": True}
    (directory / "config.json").write_text(json.dumps(config))
    weights = load_file(directory / "model.safetensors")
    table = weights["model.embed_tokens.weight"]
    weights["lm_head.weight"] = (
        torch.randn(table.shape, generator=torch.Generator().manual_seed(1)) if own else table.clone()
    )
    save_file(weights, directory / "model.safetensors", {"format": "pt"})
    return directory


@pytest.mark.parametrize("own", [True, False], ids=["another", "the same"])
@pytest.mark.parametrize("name", ["qwen2", "gemma2", "gemma3-odd"])
def test_it_is_taken_as_transformers_takes_it(tmp_path: Path, name: str, own: bool) -> None:
    directory = with_head(tmp_path / "m", name, own)
    with torch.inference_mode():
        theirs = oracle_of(directory)(torch.tensor([IDS])).logits[0]
    stage, head = Stage.load(directory, precision="fp32"), Head.load(directory, precision="fp32")
    ours = head.logits(stage.chunk(stage.open(len(IDS)), head.embed(IDS, 0)))
    assert difference(ours, theirs) < 1e-5
