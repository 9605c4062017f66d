"""Which format a directory is in, and that each stored part of a weight is verified by who reads it and by nobody else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from support.quantised import FILE, Parts, make_twins
from torch import Tensor

from swarm.checkpoint.config import read_spec
from swarm.checkpoint.manifest import read_manifest
from swarm.checkpoint.quantisation import read_format
from swarm.checkpoint.stored_tensors import StoredTensors
from swarm.engine import Head, Stage, footprint
from swarm.errors import ModelFault
from swarm.model.spec import ModelSpec
from swarm.span import LayerSpan

FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}
SCALE = "model.layers.1.mlp.up_proj.weight_scale_inv"


def ones(weight: Tensor) -> tuple[Parts, Tensor]:
    """A scale of 1 for all blocks."""
    quantised = weight.to(torch.float8_e4m3fn)
    blocks = [-(-size // 128) for size in weight.shape]
    return {"weight": quantised, "weight_scale_inv": torch.ones(blocks)}, quantised.float()


@pytest.fixture
def twins(tmp_path: Path) -> tuple[Path, Path]:
    return make_twins(tmp_path, ones, FP8)


def test_a_damaged_scale_is_caught_by_who_holds_the_layer_and_by_nobody_else(twins: tuple[Path, Path]) -> None:
    model, _ = twins
    manifest = (read_manifest(model), (model / "swarm.manifest.json").read_text())[1]
    content = bytearray((model / FILE).read_bytes())
    length = int.from_bytes(content[:8], "little")
    content[8 + length + json.loads(content[8 : 8 + length])[SCALE]["data_offsets"][0]] ^= 1
    (model / FILE).write_bytes(content)
    status = (model / FILE).stat()
    cached = json.loads(manifest)  # as if the file's time had not changed: a failing disk
    cached["stamp"][FILE] = [status.st_size, status.st_mtime_ns]
    (model / "swarm.manifest.json").write_text(json.dumps(cached))
    with pytest.raises(ModelFault, match=f"{FILE}: tensor {SCALE}: its bytes do not match"):
        Stage.load(model)
    Stage.load(model, LayerSpan(0, 1))
    Head.load(model)


def test_progress_counts_stored_bytes(twins: tuple[Path, Path]) -> None:
    seen: list[tuple[int, int]] = []
    model, _ = twins
    Stage.load(model, progress=lambda done, total: seen.append((done, total)))
    checkpoint = StoredTensors.open(model)
    stored = sum(len(checkpoint.view(name)) for name in checkpoint.file_of if ".layers." in name)
    assert seen[-1] == (stored, stored)


def test_a_quantised_model_takes_the_memory_of_what_it_is_dequantised_to(twins: tuple[Path, Path]) -> None:
    span = LayerSpan(0, 2)
    ours, theirs = (footprint(read_spec(directory), span, "bf16") for directory in twins)
    assert ours == theirs
    assert [Stage.load(directory).weight_bytes for directory in twins] == [ours] * 2


def test_the_format_makes_another_model(twins: tuple[Path, Path]) -> None:
    model, _ = twins
    first = read_manifest(model).digest
    config = json.loads((model / "config.json").read_text())
    config["quantization_config"]["weight_block_size"] = [64, 256]
    (model / "config.json").write_text(json.dumps(config))
    assert read_manifest(model).digest != first


def test_a_giant_is_refused_before_anything_is_made_for_it(twins: tuple[Path, Path]) -> None:
    model, _ = twins
    config = json.loads((model / "config.json").read_text()) | {"intermediate_size": 1 << 24}
    (model / "config.json").write_text(json.dumps(config))
    assert isinstance(read_spec(model), ModelSpec)
    with pytest.raises(ModelFault, match=rf"{FILE}: tensor model\.layers\.0\.mlp\..*shape"):
        Stage.load(model)


def test_models_that_are_not_quantised(twins: tuple[Path, Path]) -> None:
    assert read_format(twins[0]) is not None
    assert read_format(twins[1]) is None
    assert read_format(twins[1].parent) is None  # no config.json at all
