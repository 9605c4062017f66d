"""Damaged and lying checkpoints: each is refused, naming file and tensor, before anything is allocated for it."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.models import make_model

from swarm.checkpoint.stored_tensors import StoredTensors
from swarm.engine import Head, Stage
from swarm.errors import ModelFault, UsageFault
from swarm.span import LayerSpan

FILE = "model.safetensors"
TENSOR = "model.layers.1.mlp.up_proj.weight"
Header = dict[str, Any]


def header_of(path: Path) -> tuple[Header, bytes]:
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def rewrite(path: Path, change: Callable[[Header], None]) -> None:
    header, data = header_of(path)
    change(header)
    raw = json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + data)


def change_tensor(path: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    tensors = load_file(path)
    save_file(tensors | {TENSOR: change(tensors[TENSOR])}, path)


def refused(directory: Path, message: str, *, tensor: bool = True) -> None:
    """Loading is refused with that message; no more memory is touched than the header and its parsing take."""
    tracemalloc.start()
    try:
        with pytest.raises(ModelFault, match=message) as caught:
            Stage.load(directory, precision="fp32")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20
    assert ".safetensors" in str(caught.value)
    assert not tensor or TENSOR in str(caught.value)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_model(tmp_path / "model")


@pytest.mark.parametrize("kept", [0, 7, 8, 300])
def test_truncated_in_the_header(model: Path, kept: int) -> None:
    (model / FILE).write_bytes((model / FILE).read_bytes()[:kept])
    refused(model, "truncated", tensor=False)


def test_truncated_in_the_data(model: Path) -> None:
    header, data = header_of(model / FILE)
    begin = header[TENSOR]["data_offsets"][0]
    content = (model / FILE).read_bytes()
    (model / FILE).write_bytes(content[: len(content) - len(data) + begin + 10])
    refused(model, "truncated", tensor=False)


@pytest.mark.parametrize("length", [1 << 62, (1 << 64) - 1, 200 << 20])
def test_huge_header_length(model: Path, length: int) -> None:
    content = (model / FILE).read_bytes()
    (model / FILE).write_bytes(length.to_bytes(8, "little") + content[8:])
    refused(model, f"claims a header of {length} bytes", tensor=False)


@pytest.mark.parametrize("raw", [b"not json", b"[1, 2]", b"[" * 5000, b'{"a": 1, "a": 2}', b"\xff\xfe"])
def test_header_that_is_none(model: Path, raw: bytes) -> None:
    (model / FILE).write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(10000))
    refused(model, "damaged", tensor=False)


LIES: list[tuple[str, Header, str]] = [
    ("beyond the file", {"data_offsets": [0, 1 << 50]}, "truncated"),
    ("backwards", {"data_offsets": [100, 0]}, "data_offsets"),
    ("negative", {"data_offsets": [-8, 0]}, "data_offsets"),
    ("fractions", {"data_offsets": [0.0, 8.0]}, "data_offsets"),
    ("no offsets", {"data_offsets": None}, "data_offsets"),
    ("too few bytes", {"shape": [1 << 40, 1 << 40]}, "takes"),
    ("negative shape", {"shape": [-1, -1]}, "shape"),
    ("text as shape", {"shape": "64"}, "shape"),
    ("many dimensions", {"shape": [1] * 9}, "shape"),
    ("unknown dtype", {"dtype": "F12"}, "dtype 'F12'"),
    ("dtype of other size", {"dtype": "F64"}, "takes"),
    ("no dtype", {"dtype": None}, "dtype"),
]


@pytest.mark.parametrize(("lie", "message"), [lie[1:] for lie in LIES], ids=[lie[0] for lie in LIES])
def test_entry_that_lies(model: Path, lie: Header, message: str) -> None:
    rewrite(model / FILE, lambda header: header[TENSOR].update(lie))
    refused(model, message)


def test_entry_that_is_none(model: Path) -> None:
    rewrite(model / FILE, lambda header: header.update({TENSOR: 7}))
    refused(model, "lacks dtype, shape or data_offsets")


def test_overlapping_tensors(model: Path) -> None:
    def overlap(header: Header) -> None:
        gate = header[TENSOR.replace("up", "gate")]
        header[TENSOR]["data_offsets"] = gate["data_offsets"]

    rewrite(model / FILE, overlap)
    refused(model, "overlaps|belong to no tensor", tensor=False)


def test_bytes_of_no_tensor(model: Path) -> None:
    with (model / FILE).open("ab") as file:
        file.write(b"more")
    refused(model, "last 4 bytes", tensor=False)


def test_shape_that_the_config_does_not_ask_for(model: Path) -> None:
    change_tensor(model / FILE, lambda tensor: tensor.T.contiguous())
    refused(model, r"shape \[64, 160\].*\[160, 64\]")


def test_dtype_that_is_no_weight(model: Path) -> None:
    change_tensor(model / FILE, lambda tensor: tensor.to(torch.int64))
    refused(model, "dtype I64")


def test_missing_tensor(model: Path) -> None:
    tensors = load_file(model / FILE)
    del tensors[TENSOR]
    save_file(tensors, model / FILE)
    with pytest.raises(ModelFault, match=f"tensor {TENSOR}"):
        Stage.load(model, precision="fp32")


def test_no_weights_at_all(model: Path) -> None:
    (model / FILE).unlink()
    with pytest.raises(ModelFault, match="neither"):
        Stage.load(model)


def test_missing_shard(tmp_path: Path) -> None:
    make_model(tmp_path, shards=3)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ModelFault, match=r"model-00002-of-00003\.safetensors: this file of the model is missing"):
        Stage.load(tmp_path)


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "weights.bin", 7, ""])
def test_index_that_points_elsewhere(tmp_path: Path, name: object) -> None:
    make_model(tmp_path, shards=2)
    index = tmp_path / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"][TENSOR] = name
    index.write_text(json.dumps(content))
    with pytest.raises(ModelFault, match=TENSOR):
        Stage.load(tmp_path)


@pytest.mark.parametrize("content", ["{}", "[]", "x", '{"weight_map": {}}'])
def test_index_that_is_none(tmp_path: Path, content: str) -> None:
    make_model(tmp_path, shards=2)
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ModelFault, match=r"index\.json"):
        Stage.load(tmp_path)


def test_index_that_names_the_wrong_shard(tmp_path: Path) -> None:
    make_model(tmp_path, shards=2)
    index = tmp_path / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    other = {"model-00001-of-00002.safetensors": "model-00002-of-00002.safetensors"}
    content["weight_map"][TENSOR] = other.get(content["weight_map"][TENSOR], "model-00001-of-00002.safetensors")
    index.write_text(json.dumps(content))
    with pytest.raises(ModelFault, match=f"lacks tensor {TENSOR}"):
        Stage.load(tmp_path)


def test_layers_outside_the_model_and_options_that_are_none(model: Path) -> None:
    with pytest.raises(ModelFault, match=r"config\.json: layers 2-9 were asked for, but the model has layers 0-3"):
        Stage.load(model, LayerSpan(2, 10))
    with pytest.raises(UsageFault, match="int3"):
        Stage.load(model, precision="int3")
    with pytest.raises(UsageFault, match="--device tpu"):
        Stage.load(model, device="tpu")
    with pytest.raises(UsageFault, match="--device tpu"):
        Head.load(model, device="tpu")


def test_only_the_span_s_shards_are_opened(tmp_path: Path) -> None:
    make_model(tmp_path, shards=4)
    checkpoint = StoredTensors.open(tmp_path)
    name = "model.layers.3.mlp.down_proj.weight"
    assert checkpoint.tensor(name, (64, 160)).shape == (64, 160)
    assert list(checkpoint._files) == [checkpoint.file_of[name]]


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_tensors_are_views_of_the_file(tmp_path: Path, dtype: str) -> None:
    make_model(tmp_path, dtype=dtype)
    expected = load_file(tmp_path / FILE)
    checkpoint = StoredTensors.open(tmp_path)
    for name, tensor in expected.items():
        assert torch.equal(checkpoint.tensor(name, tuple(tensor.shape)), tensor)


@pytest.mark.parametrize("field", ["hidden_size", "intermediate_size", "vocab_size", "num_hidden_layers"])
def test_a_config_that_claims_a_giant(model: Path, field: str) -> None:
    config = json.loads((model / "config.json").read_text())
    most = 4096 if field == "num_hidden_layers" else 1 << 24
    (model / "config.json").write_text(json.dumps(config | {field: most, "head_dim": 16}))
    with pytest.raises(ModelFault, match=rf"{FILE}: tensor .*shape|holds tensor model\.layers\.4\."):
        Stage.load(model) if field != "vocab_size" else Head.load(model)
