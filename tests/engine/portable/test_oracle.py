"""Portable numerics against transformers: logits and greedy tokens of a model of each way to mix rows, also where it is cut."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.families import CONFIGS
from support.oracles import check, make_oracle_model


@pytest.mark.parametrize("name", ["qwen3", "qwen3-5-odd"])
def test_logits_and_greedy_tokens_as_the_oracle_s(name: str, tmp_path: Path) -> None:
    prompt = torch.randint(0, 256, (150,), generator=torch.Generator().manual_seed(1)).tolist()
    model = make_oracle_model(tmp_path / "model", CONFIGS[name])
    check(model, prompt, steps=40, tolerance=1e-5, numerics="portable")
