"""Tensors read ahead of the layers that are made of them: each is checked all the same, and let go of."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from support.models import make_model

from swarm.checkpoint import open_checkpoint
from swarm.checkpoint.safetensors_file import TensorFile
from swarm.engine import Stage
from swarm.engine.loading.sources import VerifiedSource
from swarm.errors import ModelFault
from swarm.model.tensor_names import layer_tensors


def source_of(directory: Path) -> VerifiedSource:
    checkpoint = open_checkpoint(directory)
    shapes = {name: shape for layer in range(2) for name, shape in layer_tensors(checkpoint.spec, layer).items()}
    return VerifiedSource(checkpoint.tensors(), checkpoint.manifest(), shapes, None)


def damage(directory: Path, part: str) -> None:
    """Another byte in a tensor of a file that keeps its time, as bits rot."""
    file = directory / "model.safetensors"
    name = next(name for name in TensorFile.open(file).entries if part in name)
    entry, content, before = TensorFile.open(file).entries[name], bytearray(file.read_bytes()), file.stat()
    content[entry.begin] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("part", ["layers.0.self_attn.q_proj", "layers.1.mlp.down_proj"])
def test_a_damaged_tensor_that_was_read_ahead_is_refused(tmp_path: Path, part: str) -> None:
    make_model(tmp_path)
    open_checkpoint(tmp_path).manifest()
    damage(tmp_path, part)
    with pytest.raises(ModelFault, match=f"{part}.*do not match its SHA-256"):
        Stage.load(tmp_path, precision="int8", numerics="portable")


def test_tensors_are_the_same_in_any_order_ahead_or_not_and_after_their_pages_went(tmp_path: Path) -> None:
    make_model(tmp_path)
    alone, ahead = source_of(tmp_path), source_of(tmp_path)
    shapes = list(layer_tensors(open_checkpoint(tmp_path).spec, 0).items())
    with ahead:
        for name, shape in reversed(shapes):
            assert torch.equal(ahead.tensor(name, shape), alone.tensor(name, shape))
        before = [ahead.tensor(*each).clone() for each in shapes]
        ahead.release()
        assert all(torch.equal(ahead.tensor(*each), one) for each, one in zip(shapes, before, strict=True))
