"""Models in GGUF as people hold them: a file, several, with or without a config.json beside; and files whose keys lie."""

from __future__ import annotations

import json
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import GGUFValueType as ValueType
from gguf import GGUFWriter
from hypothesis import given, settings
from hypothesis import strategies as st
from support.gguf import finish, to_gguf
from support.models import make_model

from swarm.checkpoint.config import read_config, read_spec
from swarm.checkpoint.gguf.config import gguf_config
from swarm.checkpoint.gguf.file import STRING, Array, open_gguf, shortest
from swarm.checkpoint.locate import model_name
from swarm.checkpoint.manifest import read_manifest
from swarm.checkpoint.stored_tensors import StoredTensors
from swarm.engine import Head, Stage
from swarm.errors import ModelFault
from swarm.model.spec import ModelSpec
from swarm.model.tensor_names import layer_tensors

Edit = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("plain") / "plain", num_hidden_layers=2)


@pytest.fixture
def path(plain: Path, tmp_path: Path) -> Path:
    return to_gguf(plain, tmp_path / "tiny-q8.gguf")


def rewritten(path: Path, edit: Edit) -> Path:
    """The file with other keys: `edit` changes them by name, a value of None is left out."""
    file, keys = open_gguf(path)
    values: dict[str, Any] = {key: value for key, value in keys.items() if key != "general.architecture"}
    values["general.architecture"] = keys["general.architecture"]
    edit(values)
    writer = GGUFWriter(path.with_name("rewritten.gguf"), values.pop("general.architecture"))
    for key, value in values.items():
        if isinstance(value, Array):
            value = value.texts() if value.kind == STRING else value.numbers().tolist()
        if isinstance(value, list):
            writer.add_array(key, value)
        elif value is not None:
            whole = type(value) is int
            writer.add_key_value(key, value, ValueType.UINT32 if whole else ValueType.get_type(value))
    for name, entry in file.entries.items():
        writer.add_tensor(name, np.frombuffer(file.view(name), np.float32).reshape(entry.shape))
    finish(writer)
    path.with_name("rewritten.gguf").replace(path)
    return path


def setting(**changes: Any) -> Edit:
    return lambda values: values.update({key.replace("__", "."): value for key, value in changes.items()})


def answers(model: Path) -> torch.Tensor:
    stage, head = Stage.load(model, precision="fp32"), Head.load(model, precision="fp32")
    return head.logits(stage.chunk(stage.open(20), head.embed(range(20), 0)))


def test_a_file_a_directory_and_several_files_are_one_model(plain: Path, path: Path, tmp_path: Path) -> None:
    folder, parts = tmp_path / "folder", tmp_path / "parts"
    folder.mkdir()
    (folder / path.name).symlink_to(path)
    (folder / "mmproj-f16.gguf").write_bytes(b"GGUF of images")
    to_gguf(plain, parts / "tiny-q8", split_max_tensors=7)
    files = sorted(parts.glob("*.gguf"))
    assert len(files) > 2
    models = [path, folder, folder / path.name, parts, *files[:2]]
    assert {read_manifest(model).digest for model in models} == {read_manifest(path).digest}
    assert {model_name(model) for model in models} == {"tiny-q8"}
    for model in models:
        assert torch.equal(answers(model), answers(plain))
    files[1].unlink()
    for model in (parts, files[0]):
        with pytest.raises(ModelFault, match=rf"{files[1].name}: this file of the model is missing"):
            read_config(model)


def test_the_manifest_of_a_file_lies_beside_it_under_its_own_name(plain: Path, path: Path) -> None:
    other = to_gguf(plain, path.with_name("other.gguf"), kinds=lambda name, tensor: gguf.GGMLQuantizationType.F16)
    read_manifest(path), read_manifest(other)
    assert {each.name for each in path.parent.glob("*.json")} == {
        "tiny-q8.gguf.swarm.manifest.json",
        "other.gguf.swarm.manifest.json",
    }
    with pytest.raises(ModelFault, match=r"tensor .* holds it too; of several files .* give the path of one"):
        read_manifest(path.parent)


def test_the_digest_covers_the_config_and_the_order_of_rows(path: Path) -> None:
    first = read_manifest(path).digest
    rewritten(path, setting(general__name="another name"))
    assert read_manifest(path).digest == first
    rewritten(path, setting(llama__rope__freq_base=5e5))
    second = read_manifest(path).digest
    assert second != first
    config = read_config(path)
    (path.parent / "config.json").write_text(json.dumps(config))
    assert read_manifest(path).digest == second
    # As another architecture the same rows would be read in another order
    renamed = (
        path.read_bytes().replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0qwen2").replace(b"llama.", b"qwen2.")
    )
    path.write_bytes(renamed)
    assert read_config(path) == config
    assert read_manifest(path).digest != second


def test_a_config_beside_wins(plain: Path, path: Path) -> None:
    rewritten(path, setting(llama__rope__freq_base=5e5, llama__context_length=None))
    with pytest.raises(ModelFault, match=r"llama\.context_length: is missing"):
        read_spec(path)
    for name in ("config.json", "generation_config.json"):
        config = json.loads((plain / "config.json").read_text())
        (path.parent / name).write_text(json.dumps(config | {"eos_token_id": [3, 4]}))
    assert read_spec(path).ropes == read_spec(plain).ropes
    assert read_spec(path).eos_ids == (3, 4)
    assert torch.equal(answers(path), answers(plain))


def test_a_generation_config_beside_adds_end_marks(path: Path) -> None:
    (path.parent / "generation_config.json").write_text(json.dumps({"eos_token_id": [5, 257]}))
    assert read_spec(path).eos_ids == (5, 257)


def test_marks_that_end_a_turn_end_an_answer(path: Path) -> None:
    tokens = [f"t{number}" for number in range(286)] + ["<|im_end|>", "<end_of_turn>"]
    edit = setting(**{"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": [1] * 286 + [3, 1]})
    assert read_spec(rewritten(path, edit)).eos_ids == (257, 286)
    assert read_spec(rewritten(path, setting(**{"tokenizer.ggml.eot_token_id": 9}))).eos_ids == (257, 9, 286)
    tokens[:4] = ["<|end|>", "<|call|>", "x", "y"]
    edit = setting(**{"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": [3] * 286 + [1, 1]})
    assert read_spec(rewritten(path, edit)).eos_ids == (257, 9, 0, 1)
    tokens[2] = "<|return|>"
    assert read_spec(rewritten(path, edit)).eos_ids == (257, 9, 1, 2)


def test_a_padding_token_outside_the_vocabulary_is_none(path: Path) -> None:
    assert read_spec(rewritten(path, setting(**{"tokenizer.ggml.padding_token_id": (1 << 32) - 1}))).eos_ids == (257,)


def test_arrays_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_array("texts", ["a", "", "né"])
    writer.add_array("numbers", [0.5, -2.0])
    writer.add_array("flags", [True, False])
    finish(writer)
    keys = open_gguf(tmp_path / "x.gguf")[1]
    texts, numbers, flags = keys["texts"], keys["numbers"], keys["flags"]
    assert isinstance(texts, Array)
    assert isinstance(numbers, Array)
    assert isinstance(flags, Array)
    assert texts.texts() == ["a", "", "né"]
    assert numbers.numbers().tolist() == [0.5, -2.0]
    assert flags.numbers().tolist() == [True, False]
    with pytest.raises(ModelFault, match=r"x\.gguf: texts: holds texts, no numbers"):
        texts.numbers()
    with pytest.raises(ModelFault, match=r"x\.gguf: numbers: holds no texts"):
        numbers.texts()


@given(st.floats(width=32))
def test_the_shortest_decimal_is_the_same_number(value: float) -> None:
    found = shortest(value)
    assert struct.pack("<f", found) == struct.pack("<f", value)
    assert len(repr(found)) <= len(repr(value))


LIES: list[tuple[Edit, str]] = [
    (setting(llama__block_count=None), r"llama\.block_count: is missing"),
    (setting(llama__block_count=0), r"llama\.block_count: 0 is no whole number from 1"),
    (setting(llama__embedding_length=1 << 31), r"llama\.embedding_length: 2147483648 is no whole number"),
    (setting(llama__embedding_length="64"), r"llama\.embedding_length: '64' is no whole number"),
    (setting(llama__embedding_length=128), r"tensor blk\.0\.attn_norm\.weight: shape \[64\], but"),
    (setting(llama__attention__head_count=3), r"head_dim|num_key_value_heads: 2 does not divide"),
    (setting(llama__attention__head_count_kv=[2, 1]), r"head_count_kv: an array of 2: layers that differ"),
    (
        setting(llama__attention__head_count_kv=[2] * 70000),
        r"head_count_kv: an array of 70000, but a model has at most",
    ),
    (setting(llama__attention__head_count_kv=["a", "b"]), r"head_count_kv: holds texts, no numbers"),
    (setting(llama__attention__layer_norm_rms_epsilon=float("nan")), r"rms_epsilon: nan is no positive number"),
    (setting(llama__attention__layer_norm_rms_epsilon=True), r"rms_epsilon: True is no positive number"),
    (setting(llama__rope__freq_base=-1.0), r"rope\.freq_base: -1\.0 is no positive number"),
    (
        setting(llama__attention__key_length=32, llama__attention__value_length=16),
        r"value_length: 16, but keys have 32",
    ),
    (
        setting(llama__rope__dimension_count=8, llama__attention__key_length=16),
        r"dimension_count: 8 of the 16 in a head",
    ),
    (setting(llama__rope__scaling__type="klingon"), r"rope\.scaling\.type: 'klingon' is not read; known: none, linear"),
    (setting(llama__rope__scaling__type=3), r"rope\.scaling\.type: 3 is no text"),
    (setting(llama__rope__scaling__type="linear"), r"rope\.scaling\.factor: is missing"),
    (setting(llama__nextn_predict_layers=1), r"nextn_predict_layers: 1 is not read"),
    (setting(llama__expert_count=4), r"llama\.expert_used_count: is missing"),
    (
        setting(llama__expert_count=4, llama__block_count=60000),
        r"block_count: 60000 are more than the file has tensors",
    ),
    (setting(llama__block_count=5000), r"num_hidden_layers|5000 layers, but only|5000 is no whole number"),
    (setting(llama__block_count=1), r"tensor blk\.1\.\w+\.weight: LlamaForCausalLM has no use for it"),
    (setting(llama__block_count=3), r"no file of the model holds tensor blk\.2\."),
    (setting(**{"tokenizer.ggml.eos_token_id": 288}), r"eos_token_id: 288 is not within the vocabulary of 288"),
    (setting(**{"tokenizer.ggml.bos_token_id": "one"}), r"bos_token_id: 'one' is no whole number"),
    (setting(general__architecture="mamba"), r"general\.architecture: 'mamba' is not read from GGUF; known: llama"),
]


@pytest.mark.parametrize(("edit", "message"), LIES)
def test_keys_that_lie_are_named(path: Path, edit: Edit, message: str) -> None:
    with pytest.raises(ModelFault, match=message) as refused:
        Stage.load(rewritten(path, edit))
    assert str(path.parent) in str(refused.value)


def test_no_embedding_and_factors_that_are_none(tmp_path: Path, path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content.replace(b"token_embd.weight", b"token_embx.weight"))
    with pytest.raises(ModelFault, match=r"lacks tensor token_embd\.weight; it is no whole model"):
        read_config(path)
    for values, kind in (([1.0, 0.0], np.float32), ([1.0, float("inf")], np.float32), ([1.0, 1.0], np.float16)):
        writer = GGUFWriter(tmp_path / "freqs.gguf", "llama")
        writer.add_tensor("rope_freqs.weight", np.array(values, dtype=kind))
        writer.add_tensor("token_embd.weight", np.zeros((288, 64), np.float32))
        for add in (writer.add_context_length, writer.add_embedding_length, writer.add_block_count):
            add(64)
        writer.add_feed_forward_length(64), writer.add_head_count(4), writer.add_layer_norm_rms_eps(1e-5)
        finish(writer)
        with pytest.raises(ModelFault, match=r"freqs\.gguf: tensor rope_freqs\.weight: "):
            read_config(tmp_path / "freqs.gguf")


def test_a_path_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(ModelFault, match=r"x\.gguf: this file of the model is missing"):
        read_spec(tmp_path / "x.gguf")
    with pytest.raises(ModelFault, match=r"no such directory"):
        read_spec(tmp_path / "none" / "x.gguf")
    with pytest.raises(ModelFault, match=r"is named as one of 0 files"):
        read_spec(tmp_path / "x-00001-of-00000.gguf")


@settings(max_examples=150, deadline=None)
@given(where=st.floats(0, 1, exclude_max=True), raw=st.binary(min_size=1, max_size=9))
def test_bytes_of_the_header_changed(plain: Path, where: float, raw: bytes) -> None:
    """A model, or a fault that names the file; no memory that the file does not bear out, and nothing is computed."""
    whole = plain.parent / "fuzz.gguf"
    if not whole.exists():
        to_gguf(plain, whole)
    content = whole.read_bytes()
    ends = min(entry.begin for entry in open_gguf(whole)[0].entries.values()) - len(raw)
    place, damaged = int(where * ends), plain.parent / "damaged.gguf"
    damaged.write_bytes(content[:place] + raw + content[place + len(raw) :])
    outcome = ""
    tracemalloc.start()
    try:
        spec, checkpoint = ModelSpec.from_config(gguf_config(damaged), str(damaged)), StoredTensors.open(damaged)
        checkpoint.check_all_read(spec)
        for layer in range(spec.layer_count):
            for name, shape in layer_tensors(spec, layer).items():
                checkpoint.check(name, shape)
    except ModelFault as fault:
        outcome = str(fault)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 1 << 20
    assert not outcome or str(damaged.parent) in outcome
