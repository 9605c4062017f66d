"""A model whose weights are not there: what was found in their place is named, and the way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm.checkpoint.found import no_weights
from swarm.checkpoint.locate import find_model
from swarm.errors import UsageFault


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["pytorch_model.bin"], "but pytorch_model.bin: weights as pickles"),
        (
            ["consolidated.safetensors", "pytorch_model.bin"],
            "but consolidated.safetensors: the weights under their maker",
        ),
        (
            [f"model-0000{number}-of-00005.safetensors" for number in range(1, 6)],
            "-00003-of-00005.safetensors and 2 more: shards without model.safetensors.index.json",
        ),
        (["adapter_model.safetensors", "adapter_config.json"], "but adapter_model.safetensors: an adapter, no model"),
        (["weights.safetensors"], "but weights.safetensors: safetensors of other names"),
        (["tf_model.h5"], "but tf_model.h5: weights for TensorFlow"),
        (["README.md"], "nor a GGUF file: fetch its weights"),
    ],
)
def test_what_was_found_is_named(tmp_path: Path, files: list[str], words: str) -> None:
    for name in files:
        (tmp_path / name).write_bytes(b"")
    said = no_weights(tmp_path)
    assert said.startswith(f"{tmp_path}: holds neither model.safetensors nor model.safetensors.index.json, nor a GGUF")
    assert words in said


def test_a_directory_without_a_config_is_told_of_the_same(tmp_path: Path) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(
        UsageFault, match=r"no config\.json in it, nor a GGUF file, but adapter_model\.safetensors: an adapter"
    ):
        find_model(tmp_path, None)
