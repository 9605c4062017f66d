"""A model's digest: what changes it, what does not, when it is made anew, and what it catches."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support.disk import full_disk
from support.models import make_model

from swarm.checkpoint.manifest import MANIFEST_FILE, read_manifest
from swarm.checkpoint.stored_tensors import StoredTensors
from swarm.engine import Head, Stage
from swarm.errors import ModelFault, WrongModel
from swarm.span import LayerSpan

FILE = "model.safetensors"


def flip(path: Path, where: int, *, keep_time: bool) -> None:
    """One bit, and perhaps the file's time as it was: as a failing disk does it."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[where] ^= 1
    path.write_bytes(content)
    if keep_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_shards_and_white_space_make_no_other_model(tmp_path: Path) -> None:
    one = read_manifest(make_model(tmp_path / "one"))
    sharded = make_model(tmp_path / "sharded", shards=3)
    config = json.loads((sharded / "config.json").read_text())
    (sharded / "config.json").write_text(json.dumps(dict(reversed(config.items()))))
    assert read_manifest(sharded).digest == one.digest
    assert one.ref("tiny").layer_count == 4
    assert str(one.ref("tiny")) == f"tiny ({one.digest.hex()[:12]})"


def test_weights_config_and_dtype_make_another_model(tmp_path: Path) -> None:
    models = [
        make_model(tmp_path / "a"),
        make_model(tmp_path / "b", seed=1),
        make_model(tmp_path / "c", rms_norm_eps=1e-6),
        make_model(tmp_path / "d", dtype="bf16"),
        make_model(tmp_path / "e", dtype="fp16"),
    ]
    assert len({read_manifest(model).digest for model in models}) == len(models)


def test_it_is_cached_until_a_file_changes(tmp_path: Path) -> None:
    make_model(tmp_path)
    calls: list[tuple[int, int]] = []
    first = read_manifest(tmp_path, lambda done, total: calls.append((done, total)))
    assert calls[-1][0] == calls[-1][1] > 0
    count = len(calls)
    assert read_manifest(tmp_path, lambda done, total: calls.append((done, total))).digest == first.digest
    assert len(calls) == count
    flip(tmp_path / FILE, -1, keep_time=False)
    os.utime(tmp_path / FILE, ns=(1, 1))
    assert read_manifest(tmp_path).digest != first.digest


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version": 1, "stamp": {}, "tensors": {}}', "\x00\xff"])
def test_a_damaged_cache_is_made_anew(tmp_path: Path, content: str) -> None:
    expected = read_manifest(make_model(tmp_path)).digest
    (tmp_path / MANIFEST_FILE).write_text(content)
    assert read_manifest(tmp_path).digest == expected


def test_a_cache_that_lies_about_a_tensor_is_caught_when_it_is_loaded(tmp_path: Path) -> None:
    read_manifest(make_model(tmp_path))
    cached = json.loads((tmp_path / MANIFEST_FILE).read_text())
    name = "model.layers.2.mlp.up_proj.weight"
    cached["tensors"][name] = "0" * 64
    (tmp_path / MANIFEST_FILE).write_text(json.dumps(cached))
    with pytest.raises(ModelFault, match=f"{FILE}: tensor {name}"):
        Stage.load(tmp_path)


def test_where_the_model_cannot_be_written_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(tmp_path / "model")
    (model / MANIFEST_FILE).mkdir()  # nothing can be put in its place, not even by root
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first = read_manifest(model)
    (cached,) = (tmp_path / "cache" / "swarm").iterdir()
    hashed: list[int] = []
    assert read_manifest(model, lambda done, total: hashed.append(done)).digest == first.digest
    assert not hashed
    assert cached.suffix == ".json"


def test_a_full_disk_is_no_hindrance_and_nothing_is_left_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = make_model(tmp_path / "model")
    before = sorted(model.iterdir())
    with full_disk():
        digest = read_manifest(model).digest
    assert sorted(model.iterdir()) == before
    assert not [*(tmp_path / "cache").rglob("*.json*")]
    assert read_manifest(model).digest == digest


def test_a_flipped_bit_is_caught_by_who_holds_the_layer_and_by_nobody_else(tmp_path: Path) -> None:
    make_model(tmp_path)
    read_manifest(tmp_path)
    content = (tmp_path / FILE).read_bytes()
    length = int.from_bytes(content[:8], "little")
    name = "model.layers.2.mlp.up_proj.weight"
    begin = json.loads(content[8 : 8 + length])[name]["data_offsets"][0]
    flip(tmp_path / FILE, 8 + length + begin + 5, keep_time=True)
    with pytest.raises(ModelFault, match=f"{FILE}: tensor {name}: its bytes do not match"):
        Stage.load(tmp_path, LayerSpan(2, 3))
    Stage.load(tmp_path, LayerSpan(0, 2))
    Head.load(tmp_path)


def test_another_model_than_the_one_that_is_wanted(tmp_path: Path) -> None:
    a, b = read_manifest(make_model(tmp_path / "a")), read_manifest(make_model(tmp_path / "b", seed=1))
    a.require(a.digest)
    with pytest.raises(WrongModel, match=b.digest.hex()):
        a.require(b.digest)


def test_progress_of_loading(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    stage = Stage.load(make_model(tmp_path), LayerSpan(1, 3), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1]
    assert stage.manifest is not None


def test_a_manifest_stands_for_shards_that_are_elsewhere(tmp_path: Path) -> None:
    model = make_model(tmp_path / "m", shards=3)
    whole = read_manifest(model)
    stage = Stage.load(model, LayerSpan(0, 1))
    last = model / "model-00003-of-00003.safetensors"
    last.unlink()
    for file in model.glob("model-*"):  # as a copy has other times
        os.utime(file, ns=(1, 1))
    before = (model / MANIFEST_FILE).read_bytes()
    assert read_manifest(model) == whole
    assert (model / MANIFEST_FILE).read_bytes() == before
    assert Stage.load(model, LayerSpan(0, 1)).manifest == stage.manifest
    with pytest.raises(ModelFault, match=r"model-00003-of-00003\.safetensors: this file of the model is missing"):
        Stage.load(model)


def test_what_is_there_is_held_to_the_manifest_that_came_along(tmp_path: Path) -> None:
    model = make_model(tmp_path / "m", shards=3)
    read_manifest(model)
    (model / "model-00003-of-00003.safetensors").unlink()
    held = StoredTensors.open(model).file("model.layers.0.mlp.up_proj.weight")
    flip(held.path, held.entries["model.layers.0.mlp.up_proj.weight"].begin, keep_time=False)
    with pytest.raises(ModelFault, match="do not match its SHA-256"):
        Stage.load(model, LayerSpan(0, 1))
    held.path.write_bytes(b"another size")
    with pytest.raises(
        ModelFault, match=rf"00003\.safetensors: this file of the model is missing\. The {MANIFEST_FILE}"
    ):
        read_manifest(model)
