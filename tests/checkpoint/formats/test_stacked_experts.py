"""Experts on top of each other, as newer checkpoints hold them: the same model as with each for itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.families import CONFIGS
from support.oracles import make_oracle_model
from support.quantised import FILE, logits
from transformers import AutoModelForCausalLM

from swarm.engine import PRECISIONS, Stage
from swarm.errors import ModelFault
from swarm.span import LayerSpan


def twins(directory: Path, config: dict[str, Any]) -> tuple[Path, Path]:
    """As transformers saves it, and as it does without undoing what it did when it loaded."""
    apart, stacked = make_oracle_model(directory / "apart", config), directory / "stacked"
    AutoModelForCausalLM.from_pretrained(apart).save_pretrained(stacked, save_original_format=False)
    (stacked / "config.json").write_text(json.dumps(config))
    return apart, stacked


@pytest.mark.parametrize("name", ["qwen3-moe", "qwen3-next", "mixtral-odd"])
def test_the_bits_of_experts_that_lie_apart(name: str, tmp_path: Path) -> None:
    apart, stacked = twins(tmp_path, CONFIGS[name])
    held = load_file(stacked / FILE)
    assert any(each.endswith("mlp.experts.gate_up_proj") and held[each].dim() == 3 for each in held)
    for precision in PRECISIONS:
        assert torch.equal(logits(stacked, precision), logits(apart, precision))


def test_what_is_missing_is_called_as_its_neighbours_are(tmp_path: Path) -> None:
    apart, stacked = twins(tmp_path, CONFIGS["qwen3-moe-odd"])  # experts in the second layer alone
    for directory, name in (
        (apart, "model.layers.1.mlp.experts.2.up_proj.weight"),
        (stacked, "model.layers.1.mlp.experts.down_proj"),
    ):
        held = load_file(directory / FILE)
        del held[name]
        save_file(held, directory / FILE)
        with pytest.raises(ModelFault, match=f"no file of the model holds tensor {name}"):
            Stage.load(directory)
        Stage.load(directory, LayerSpan(0, 1))
